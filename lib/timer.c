/* The timers of a loop: a heap in an array, the earliest at its root. Loop thread only.
 *
 * Timers are ordered by (at, turn): equal times fire in the order of arming. Each has four
 * children: a sift down looks at a few neighbouring pointers on each of half as many levels as with
 * two.
 *
 * A timer knows its place (index, 1 + place), so taking it out of the middle needs no search. Room
 * is reserved when a task is made (one timer a task), therefore arming can't fail. */
#include "config.h"

#include <errno.h>

#include "core.h"

#define CHILDREN 4

int ferry__heap_reserve(struct ferry__heap *heap, size_t timers) {
    if (timers <= heap->room)
        return 0;
    if (timers > SIZE_MAX / 2 / sizeof(struct ferry__timer *))
        return -ENOMEM;
    size_t room = heap->room ? heap->room * 2 : 64;
    if (room < timers)
        room = timers;
    struct ferry__timer **at = ferry__realloc(heap->at, room * sizeof(struct ferry__timer *));
    if (!at)
        return -ENOMEM;
    heap->at = at;
    heap->room = room;
    return 0;
}

static bool before(const struct ferry__timer *a, const struct ferry__timer *b) {
    return a->at != b->at ? a->at < b->at : a->turn < b->turn;
}

static void place(struct ferry__heap *heap, size_t i, struct ferry__timer *timer) {
    heap->at[i] = timer;
    timer->index = i + 1;
}

/* The place i is free; `timer` goes there or nearer to the root. */
static void sift_up(struct ferry__heap *heap, size_t i, struct ferry__timer *timer) {
    while (i > 0) {
        size_t parent = (i - 1) / CHILDREN;
        if (!before(timer, heap->at[parent]))
            break;
        place(heap, i, heap->at[parent]);
        i = parent;
    }
    place(heap, i, timer);
}

/* The place i is free; `timer` goes there or further from the root. */
static void sift_down(struct ferry__heap *heap, size_t i, struct ferry__timer *timer) {
    for (;;) {
        size_t first = i * CHILDREN + 1;
        if (first >= heap->used)
            break;
        size_t last = heap->used - first < CHILDREN ? heap->used : first + CHILDREN;
        size_t least = first;
        for (size_t child = first + 1; child < last; child++) {
            if (before(heap->at[child], heap->at[least]))
                least = child;
        }
        if (!before(heap->at[least], timer))
            break;
        place(heap, i, heap->at[least]);
        i = least;
    }
    place(heap, i, timer);
}

void ferry__heap_add(struct ferry__heap *heap, struct ferry__timer *timer, int64_t at) {
    timer->at = at;
    timer->turn = heap->turns++;
    sift_up(heap, heap->used++, timer);
}

void ferry__heap_take(struct ferry__heap *heap, struct ferry__timer *timer) {
    size_t i = timer->index - 1;
    timer->index = 0;
    struct ferry__timer *last = heap->at[--heap->used];
    if (last == timer)
        return;
    if (i > 0 && before(last, heap->at[(i - 1) / CHILDREN]))
        sift_up(heap, i, last);
    else
        sift_down(heap, i, last);
}

void ferry__heap_fini(struct ferry__heap *heap) {
    ferry__free(heap->at);
    *heap = (struct ferry__heap){0};
}
