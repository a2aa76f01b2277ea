/* A bounded queue between tasks and threads.
 *
 * An item goes straight from a put to the getter that has waited longest, and a place that a get
 * makes free goes to the putter that has waited longest: its item is inside before the get returns.
 * So, with the lock free:
 *
 *     a getter waits   =>  the queue is empty
 *     a putter waits   =>  it is full, or what is left of its bytes is too little for the item of
 *                          the first who waits (those behind it don't overtake), or it has as many
 *                          items as there are places made
 *     it is closed     =>  nobody waits to put or to get
 *
 * A queue of capacity 0 (of a channel or stream: ferry__queue_new()) is always empty: a put waits
 * until a get takes its item, and a getter waits only while no putter does. A looker, the one who
 * may wait until a get needn't, is there only while the queue is open and empty and nobody waits.
 *
 * (A waiter that was cancelled or timed out stands in its line until it runs; it no longer waits.
 * When it was the first in line, those behind it get their turn then.) An empty queue takes every
 * item: so it is never empty with a putter waiting, and whoever empties it lets them in.
 *
 * An item's size is asked for once, by the put, on its thread and without the lock; it stays with
 * the item until that is got. A waiting putter's `value` is its item's size.
 *
 * unfinished counts the items that were put and for which nobody has called task_done() yet.
 *
 * The door. While a FIFO queue whose items have no size holds a few items, puts leave theirs at the
 * door, under a lock of its own, and gets take what is inside under the queue's: the two sides
 * don't meet. A get that finds nothing inside fetches all that is at the door. So, with both locks
 * free:
 *
 *     the door is open  =>  nobody waits, to put or to get or to look, and no side has ended
 *     used + items at the door + places free at the door  <=  capacity
 *     an item at the door was put after every item inside
 *
 * It is opened by a put that finds some items inside and nobody waiting, with the places that are
 * free then, and shut (what is there comes in) by all that has to know exactly: a put that finds no
 * place there, a get that would have to wait, the end of a side. Items at the door aren't counted
 * in `unfinished` yet. Lock order: the queue's > the door's.
 *
 * Items lie in places that never move: blocks, each as large as all before it, made outside of the
 * lock when they are first needed. FIFO and LIFO chain the places; those that are free are chained
 * as well. A priority queue uses them by number, as a heap. */
#include "config.h"

#include <errno.h>
#include <stdio.h>

#include "line.h"
#include "queue_core.h"

enum { FIRST_BLOCK = 4096, FIRST_BLOCK_BITS = 12 };
#define CAPACITY_MAX (SIZE_MAX / 64)
_Static_assert(FIRST_BLOCK == 1 << FIRST_BLOCK_BITS, "a block's number is found by shifting");
_Static_assert(CAPACITY_MAX >> (FIRST_BLOCK_BITS + FERRY__QUEUE_BLOCKS - 1) == 0,
               "every place is in one of the blocks");

struct ferry__place {
    void *item;
    union {
        struct ferry__place *next; /* FIFO, LIFO, free */
        uint64_t turn;             /* priority: equal ones in the order of their puts */
    };
    size_t size;
};

static struct ferry__detail say_closed = FERRY__STATIC_DETAIL("the queue was closed");
static struct ferry__detail say_full = FERRY__STATIC_DETAIL("the queue is full");
static struct ferry__detail say_empty = FERRY__STATIC_DETAIL("the queue is empty");
static struct ferry__detail say_no_room =
    FERRY__STATIC_DETAIL("out of memory: the queue could not grow");
static const struct ferry__queue_words queue_words = {
    .closed = &say_closed, .full = &say_full, .empty = &say_empty};
static struct ferry__detail say_done =
    FERRY__STATIC_DETAIL("task_done was called more often than items were put into the queue");
static struct ferry__detail say_waited =
    FERRY__STATIC_DETAIL("the queue can't be freed while somebody waits on it: close it first");
static struct ferry__detail say_capacity =
    FERRY__STATIC_DETAIL("a queue's capacity is at least 1 and at most SIZE_MAX / 64");
static struct ferry__detail say_bytes = FERRY__STATIC_DETAIL(
    "a queue bounded by bytes_max has to know the size of its items: set item_size");
static struct ferry__detail say_order = FERRY__STATIC_DETAIL(
    "a queue's order is FERRY_FIFO, FERRY_LIFO, or FERRY_PRIORITY with a compare function");

static struct ferry__place *place_at(const struct ferry__store *store, size_t i) {
    if (i < FIRST_BLOCK)
        return &store->blocks[0][i];
    int block = 64 - __builtin_clzll((unsigned long long)i >> FIRST_BLOCK_BITS);
    return &store->blocks[block][i - ((size_t)FIRST_BLOCK << (block - 1))];
}

/* How many places the next block has when there are `room` in those before. */
static size_t next_block(size_t room, size_t capacity) {
    size_t size = room ? room : FIRST_BLOCK;
    return size < capacity - room ? size : capacity - room;
}

static void add_block(struct ferry__store *store, struct ferry__place *block, size_t size) {
    int i = 0;
    while (store->blocks[i])
        i++;
    store->blocks[i] = block;
    store->room += size;
}

static void free_blocks(struct ferry__store *store) {
    for (int i = 0; i < FERRY__QUEUE_BLOCKS; i++)
        ferry__free(store->blocks[i]);
}

static struct ferry__place *unused_place(struct ferry__store *store) {
    struct ferry__place *place = store->spare;
    if (place)
        store->spare = place->next; /* spare_last stays: it is looked at only while there are any */
    else
        place = place_at(store, store->touched++);
    return place;
}

static bool before(const ferry_queue *queue, const struct ferry__place *a,
                   const struct ferry__place *b) {
    int order = queue->compare(a->item, b->item);
    return order != 0 ? order < 0 : a->turn < b->turn;
}

static void heap_push(ferry_queue *queue, void *item, size_t size) {
    struct ferry__store *store = &queue->store;
    struct ferry__place fresh = {.item = item, .turn = store->turns++, .size = size};
    size_t i = store->used++;
    while (i > 0) {
        struct ferry__place *parent = place_at(store, (i - 1) / 2);
        if (!before(queue, &fresh, parent))
            break;
        *place_at(store, i) = *parent;
        i = (i - 1) / 2;
    }
    *place_at(store, i) = fresh;
}

static void *heap_pop(ferry_queue *queue) {
    struct ferry__store *store = &queue->store;
    void *item = place_at(store, 0)->item;
    store->bytes -= place_at(store, 0)->size;
    struct ferry__place moved = *place_at(store, --store->used);
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < store->used; i = child) {
        struct ferry__place *least = place_at(store, child);
        if (child + 1 < store->used) {
            struct ferry__place *other = place_at(store, child + 1);
            if (before(queue, other, least)) {
                least = other;
                child++;
            }
        }
        if (!before(queue, least, &moved))
            break;
        *place_at(store, i) = *least;
    }
    *place_at(store, i) = moved;
    return item;
}

static void *chain_pop(struct ferry__store *store) {
    struct ferry__place *place = store->first;
    store->first = place->next;
    store->used--;
    store->bytes -= place->size;
    if (!store->spare)
        store->spare_last = place;
    place->next = store->spare;
    store->spare = place;
    return place->item;
}

/* Under the lock, with a place to spare. */
static void push(ferry_queue *queue, void *item, size_t size) {
    struct ferry__store *store = &queue->store;
    queue->unfinished++;
    store->bytes += size;
    if (queue->order == FERRY_PRIORITY) {
        heap_push(queue, item, size);
        return;
    }
    struct ferry__place *place = unused_place(store);
    place->item = item;
    place->size = size;
    if (queue->order == FERRY_LIFO || !store->first) {
        place->next = store->first;
        if (!store->first)
            store->last = place;
        store->first = place;
    } else {
        place->next = NULL;
        store->last->next = place;
        store->last = place;
    }
    store->used++;
}

/* Under the lock, with an item inside. */
static void *pop(ferry_queue *queue) {
    return queue->order == FERRY_PRIORITY ? heap_pop(queue) : chain_pop(&queue->store);
}

/* Under the lock: whether the bounds allow an item of this size. One that is larger than the bound
 * gets in alone. */
static bool fits(const ferry_queue *queue, size_t size) {
    const struct ferry__store *store = &queue->store;
    if (store->used >= queue->capacity)
        return false;
    return store->used == 0 ||
           (store->bytes <= queue->bytes_max && size <= queue->bytes_max - store->bytes);
}

/* Under the lock: lets those in who waited and fit now, in turn. */
static void admit(ferry_queue *queue, struct ferry__wakes *wakes) {
    struct ferry__waiter *w;
    while ((w = ferry__line_head(&queue->put_first, &queue->put_last)) != NULL &&
           queue->store.used < queue->store.room && fits(queue, (size_t)w->value)) {
        ferry__line_remove(&queue->put_first, &queue->put_last, w);
        if (ferry__claim(w)) {
            push(queue, w->item, (size_t)w->value);
            w->value = 0;
            ferry__wakes_add(wakes, w);
        }
    }
}

/* ---- The door -------------------------------------------------------------------------------- */

enum { OPEN_FROM = 8, FRESH_PLACES = 256 };

/* Under both locks: what is at the door comes in. */
static void let_in(ferry_queue *queue) {
    struct ferry__store *store = &queue->store;
    struct ferry__door *door = &queue->door;
    if (door->n == 0)
        return;
    if (store->first)
        store->last->next = door->first;
    else
        store->first = door->first;
    store->last = door->last;
    store->used += door->n;
    queue->unfinished += door->n;
    door->first = NULL;
    door->n = 0;
}

/* Under both locks: the places that are free inside go to the door; there are `left` then. */
static void give_places(ferry_queue *queue, size_t left) {
    struct ferry__store *store = &queue->store;
    struct ferry__door *door = &queue->door;
    if (store->spare) {
        if (door->left > 0)
            store->spare_last->next = door->free;
        else
            door->free_last = store->spare_last;
        door->free = store->spare;
        store->spare = NULL;
    }
    __atomic_store_n(&door->left, left, __ATOMIC_RELAXED);
}

/* Under the lock: from here on everything is inside, and comes in by the lock. */
static void shut_door(ferry_queue *queue) {
    struct ferry__store *store = &queue->store;
    struct ferry__door *door = &queue->door;
    if (!queue->door_open)
        return;
    ferry__lock(&door->lock);
    queue->door_open = false;
    let_in(queue);
    if (door->left > 0) {
        if (store->spare)
            door->free_last->next = store->spare;
        else
            store->spare_last = door->free_last;
        store->spare = door->free;
        __atomic_store_n(&door->left, 0, __ATOMIC_RELAXED);
    }
    ferry__unlock(&door->lock);
}

/* Under the lock, with the door shut and nobody waiting. All places touched are used or spare;
 * with a putter waiting none would be. */
static void open_door(ferry_queue *queue) {
    struct ferry__store *store = &queue->store;
    if (queue->order != FERRY_FIFO || queue->item_size || store->used < OPEN_FROM)
        return;
    for (size_t n = store->touched - store->used; n < FRESH_PLACES && store->touched < store->room;
         n++) {
        struct ferry__place *place = place_at(store, store->touched++);
        if (!store->spare)
            store->spare_last = place;
        place->next = store->spare;
        store->spare = place;
    }
    if (!store->spare)
        return;
    ferry__lock(&queue->door.lock);
    queue->door_open = true;
    give_places(queue, store->touched - store->used);
    ferry__unlock(&queue->door.lock);
}

/* Under the lock, with nothing inside: fetches what is at the door, and leaves it open unless there
 * is nothing. */
static void fetch_from_door(ferry_queue *queue) {
    struct ferry__door *door = &queue->door;
    if (!queue->door_open)
        return;
    ferry__lock(&door->lock);
    let_in(queue);
    give_places(queue, queue->store.touched - queue->store.used);
    ferry__unlock(&door->lock);
    if (queue->store.used == 0)
        shut_door(queue);
}

static bool put_at_door(ferry_queue *queue, void *item) {
    struct ferry__door *door = &queue->door;
    if (__atomic_load_n(&door->left, __ATOMIC_RELAXED) == 0)
        return false;
    FERRY__POINT(queue_door);
    ferry__lock(&door->lock);
    bool open = door->left > 0;
    if (open) {
        struct ferry__place *place = door->free;
        door->free = place->next;
        __atomic_store_n(&door->left, door->left - 1, __ATOMIC_RELAXED);
        place->item = item;
        place->size = 0;
        place->next = NULL;
        if (door->n++ == 0)
            door->first = place;
        else
            door->last->next = place;
        door->last = place;
    }
    ferry__unlock(&door->lock);
    return open;
}

static size_t size_of(const ferry_queue *queue, const void *item) {
    return queue->item_size ? queue->item_size(item) : 0;
}

/* Discards what is in a store that no queue has any more. */
static void discard(struct ferry__store *store, int order, void (*item_free)(void *item)) {
    while (item_free && store->used > 0)
        item_free(order == FERRY_PRIORITY ? place_at(store, --store->used)->item
                                          : chain_pop(store));
    free_blocks(store);
}

static ferry_queue *refuse_new(int code, struct ferry__detail *why) {
    errno = -ferry__refuse(-code, why);
    return NULL;
}

ferry_queue *ferry__queue_new(size_t capacity, const ferry_queue_options *options, const char *name,
                              const struct ferry__queue_words *words) {
    static const ferry_queue_options defaults;
    if (!options)
        options = &defaults;
    if (capacity > CAPACITY_MAX)
        return refuse_new(EINVAL, &say_capacity);
    if (options->order < FERRY_FIFO || options->order > FERRY_PRIORITY ||
        (options->order == FERRY_PRIORITY && !options->compare))
        return refuse_new(EINVAL, &say_order);
    if (options->bytes_max > 0 && !options->item_size)
        return refuse_new(EINVAL, &say_bytes);
    size_t size = next_block(0, capacity);
    struct ferry__place *block = size ? ferry__malloc(size * sizeof *block) : NULL;
    ferry_queue *queue = ferry__calloc(1, sizeof *queue);
    if ((size && !block) || !queue) {
        ferry__free(block);
        ferry__free(queue);
        return refuse_new(ENOMEM, NULL);
    }
    add_block(&queue->store, block, size);
    queue->capacity = capacity;
    queue->order = options->order;
    queue->compare = options->compare;
    queue->item_free = options->item_free;
    queue->item_size = options->item_size;
    queue->bytes_max = options->bytes_max ? options->bytes_max : SIZE_MAX;
    queue->words = words;
    name = options->name ? options->name : name;
    snprintf(queue->putting, sizeof queue->putting, "put into %.*s", FERRY__NAME_MAX - 1, name);
    snprintf(queue->getting, sizeof queue->getting, "get from %.*s", FERRY__NAME_MAX - 1, name);
    snprintf(queue->joining, sizeof queue->joining, "join of %.*s", FERRY__NAME_MAX - 1, name);
    return queue;
}

ferry_queue *ferry_queue_new(size_t capacity, const ferry_queue_options *options) {
    return capacity < 1 ? refuse_new(EINVAL, &say_capacity)
                        : ferry__queue_new(capacity, options, "queue", &queue_words);
}

int ferry_queue_free(ferry_queue *queue) {
    if (!queue)
        return 0;
    ferry__lock(&queue->lock);
    bool waited = queue->put_first || queue->get_first || queue->join_first;
    shut_door(queue);
    ferry__unlock(&queue->lock);
    if (waited)
        return ferry__refuse(-EBUSY, &say_waited);
    discard(&queue->store, queue->order, queue->item_free);
    ferry__report_over();
    ferry__free(queue);
    return 0;
}

/* Makes room beyond `room` places; also 0 when somebody else did, or when it isn't needed
 * any more. */
static int grow(ferry_queue *queue, size_t room) {
    size_t size = next_block(room, queue->capacity);
    struct ferry__place *block = ferry__malloc(size * sizeof *block);
    if (!block)
        return -ENOMEM;
    ferry__lock(&queue->lock);
    if (queue->store.room == room) {
        add_block(&queue->store, block, size);
        block = NULL;
    }
    ferry__unlock(&queue->lock);
    ferry__free(block);
    return 0;
}

/* Under the lock: a get needn't wait any more. */
static void show(ferry_queue *queue, struct ferry__wakes *wakes) {
    if (queue->looker)
        ferry__either_claim(queue->looker, wakes);
    queue->looker = NULL;
}

bool ferry__queue_arm(ferry_queue *queue, struct ferry__either *looker) {
    ferry__lock(&queue->lock);
    shut_door(queue);
    bool empty = queue->store.used == 0 && queue->get_code == 0 &&
                 !ferry__line_head(&queue->put_first, &queue->put_last);
    if (empty)
        queue->looker = looker;
    ferry__unlock(&queue->lock);
    return empty;
}

void ferry__queue_disarm(ferry_queue *queue) {
    ferry__lock(&queue->lock);
    queue->looker = NULL;
    ferry__unlock(&queue->lock);
}

/* Puts the item if that is possible at once: 0, with those on `wakes` who are to be woken after the
 * lock was dropped; the code that the queue was ended with; -ENOMEM; -EAGAIN. Takes the lock and
 * returns with it held, so that the caller can join the line. */
static int offer(ferry_queue *queue, void *item, size_t size, struct ferry__wakes *wakes) {
    ferry__lock(&queue->lock);
    shut_door(queue);
    while (!queue->put_code && queue->store.used == queue->store.room && fits(queue, size)) {
        size_t room = queue->store.room;
        ferry__unlock(&queue->lock);
        FERRY__POINT(queue_grow);
        int rc = grow(queue, room);
        ferry__lock(&queue->lock);
        shut_door(queue);
        if (rc != 0 && queue->store.room == room && queue->store.used == room)
            return rc;
    }
    if (queue->put_code)
        return queue->put_code;
    struct ferry__waiter *getter = ferry__line_claim(&queue->get_first, &queue->get_last);
    if (getter) {
        getter->item = item;
        ferry__wakes_add(wakes, getter);
        queue->unfinished++;
        return 0;
    }
    if (!fits(queue, size) || ferry__line_head(&queue->put_first, &queue->put_last))
        return -EAGAIN;
    push(queue, item, size);
    show(queue, wakes);
    open_door(queue);
    return 0;
}

static int refuse(const struct ferry__queue_words *words, int rc, struct ferry__detail *not_now) {
    return ferry__refuse(rc, rc == FERRY_ECLOSED   ? words->closed
                             : rc == FERRY_EBROKEN ? words->broken
                             : rc == FERRY_END     ? words->over
                             : rc == -EAGAIN       ? not_now
                                                   : &say_no_room);
}

/* With the lock held, which it drops. A putter that leaves without may have held up smaller items:
 * those get their turn before the queue can be freed. */
static int wait_to_put(ferry_queue *queue, struct ferry__waiter *w, int64_t ms) {
    struct ferry__wakes wakes = {0};
    show(queue, &wakes);
    int rc = ferry__line_try_wait(&queue->lock, &queue->put_first, &queue->put_last, w,
                                  queue->putting, ms, &wakes);
    if (rc == -ECANCELED || rc == -ETIMEDOUT) {
        admit(queue, &wakes);
        ferry__unlock(&queue->lock);
        ferry__wake_all(&wakes);
    }
    return rc;
}

int ferry_queue_put_for(ferry_queue *queue, void *item, int64_t ms) {
    struct ferry__ctx *ctx;
    int rc = ferry__enter_self(&ctx);
    if (rc != 0)
        return rc;
    if (put_at_door(queue, item))
        return 0;
    size_t size = size_of(queue, item);
    const struct ferry__queue_words *words = queue->words;
    struct ferry__wakes wakes = {0};
    rc = offer(queue, item, size, &wakes);
    if (rc != -EAGAIN) {
        ferry__unlock(&queue->lock);
        ferry__wake_all(&wakes);
        return rc == 0 ? 0 : refuse(words, rc, NULL);
    }
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    w.item = item;
    w.value = (int64_t)size;
    rc = wait_to_put(queue, &w, ms);
    return rc != 0 ? rc : w.value == 0 ? 0 : refuse(words, (int)w.value, NULL);
}

int ferry_queue_put(ferry_queue *queue, void *item) {
    return ferry_queue_put_for(queue, item, FERRY_FOREVER);
}

int ferry_queue_try_put(ferry_queue *queue, void *item) {
    if (put_at_door(queue, item))
        return 0;
    const struct ferry__queue_words *words = queue->words;
    struct ferry__wakes wakes = {0};
    int rc = offer(queue, item, size_of(queue, item), &wakes);
    ferry__unlock(&queue->lock);
    ferry__wake_all(&wakes);
    return rc == 0 ? 0 : refuse(words, rc, words->full);
}

/* Gets an item if there is one: 0, with the putters whose items have taken the place on `wakes`;
 * the code that the queue was ended with; -EAGAIN. Takes the lock and returns with it held, as
 * offer(). */
static int fetch(ferry_queue *queue, void **item, struct ferry__wakes *wakes) {
    ferry__lock(&queue->lock);
    if (queue->store.used == 0)
        fetch_from_door(queue);
    if (queue->store.used > 0) {
        *item = pop(queue);
        admit(queue, wakes);
        return 0;
    }
    struct ferry__waiter *putter = ferry__line_claim(&queue->put_first, &queue->put_last);
    if (!putter)
        return queue->get_code ? queue->get_code : -EAGAIN;
    *item = putter->item;
    putter->value = 0;
    queue->unfinished++;
    ferry__wakes_add(wakes, putter);
    return 0;
}

int ferry_queue_get_for(ferry_queue *queue, void **item, int64_t ms) {
    struct ferry__ctx *ctx;
    int rc = ferry__enter_self(&ctx);
    if (rc != 0)
        return rc;
    const struct ferry__queue_words *words = queue->words;
    struct ferry__wakes wakes = {0};
    rc = fetch(queue, item, &wakes);
    if (rc != -EAGAIN) {
        ferry__unlock(&queue->lock);
        ferry__wake_all(&wakes);
        return rc == 0 ? 0 : refuse(words, rc, NULL);
    }
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    rc =
        ferry__line_wait(&queue->lock, &queue->get_first, &queue->get_last, &w, queue->getting, ms);
    if (rc != 0)
        return rc;
    if (w.value != 0)
        return refuse(words, (int)w.value, NULL);
    *item = w.item;
    return 0;
}

int ferry_queue_get(ferry_queue *queue, void **item) {
    return ferry_queue_get_for(queue, item, FERRY_FOREVER);
}

int ferry_queue_try_get(ferry_queue *queue, void **item) {
    const struct ferry__queue_words *words = queue->words;
    struct ferry__wakes wakes = {0};
    int rc = fetch(queue, item, &wakes);
    ferry__unlock(&queue->lock);
    ferry__wake_all(&wakes);
    return rc == 0 ? 0 : refuse(words, rc, words->empty);
}

int ferry_queue_task_done(ferry_queue *queue) {
    struct ferry__wakes wakes = {0};
    int rc = -EINVAL;
    ferry__lock(&queue->lock);
    if (queue->unfinished <= 1)
        shut_door(queue); /* there may be more of them there */
    if (queue->unfinished > 0) {
        rc = 0;
        if (--queue->unfinished == 0)
            ferry__line_claim_all(&queue->join_first, &queue->join_last, 0, &wakes);
    }
    ferry__unlock(&queue->lock);
    ferry__wake_all(&wakes);
    return rc == 0 ? 0 : ferry__refuse(rc, &say_done);
}

int ferry_queue_join(ferry_queue *queue) {
    struct ferry__ctx *ctx;
    int rc = ferry__enter_self(&ctx);
    if (rc != 0)
        return rc;
    ferry__lock(&queue->lock);
    shut_door(queue);
    if (queue->unfinished == 0) {
        ferry__unlock(&queue->lock);
        return 0;
    }
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    return ferry__line_wait(&queue->lock, &queue->join_first, &queue->join_last, &w, queue->joining,
                            FERRY_FOREVER);
}

/* Under the lock: true when the code is news. */
static bool end_side(int *side, int code) {
    if (code == 0 || *side == code || (*side != 0 && code != FERRY_ECLOSED))
        return false;
    *side = code;
    return true;
}

void ferry_queue_close(ferry_queue *queue, bool discard_items) {
    ferry__queue_end(queue, FERRY_ECLOSED, FERRY_ECLOSED, discard_items);
}

void ferry__queue_end(ferry_queue *queue, int put_code, int get_code, bool discard_items) {
    struct ferry__wakes wakes = {0};
    struct ferry__store discarded = {0};
    int order = queue->order;
    void (*item_free)(void *item) = queue->item_free;
    ferry__lock(&queue->lock);
    shut_door(queue);
    if (end_side(&queue->put_code, put_code))
        ferry__line_claim_all(&queue->put_first, &queue->put_last, put_code, &wakes);
    if (end_side(&queue->get_code, get_code)) {
        ferry__line_claim_all(&queue->get_first, &queue->get_last, get_code, &wakes);
        show(queue, &wakes);
    }
    if (discard_items) {
        discarded = queue->store;
        queue->store = (struct ferry__store){0};
        queue->unfinished -=
            discarded.used < queue->unfinished ? discarded.used : queue->unfinished;
        if (queue->unfinished == 0)
            ferry__line_claim_all(&queue->join_first, &queue->join_last, 0, &wakes);
    }
    ferry__unlock(&queue->lock);
    /* From here on the queue isn't touched: who is woken, or sees it closed, may free it. */
    ferry__wake_all(&wakes);
    discard(&discarded, order, item_free);
}

size_t ferry_queue_length(ferry_queue *queue) {
    ferry__lock(&queue->lock);
    ferry__lock(&queue->door.lock);
    size_t length = queue->store.used + queue->door.n;
    ferry__unlock(&queue->door.lock);
    ferry__unlock(&queue->lock);
    return length;
}

size_t ferry_queue_bytes(ferry_queue *queue) {
    ferry__lock(&queue->lock);
    size_t bytes = queue->store.bytes;
    ferry__unlock(&queue->lock);
    return bytes;
}
