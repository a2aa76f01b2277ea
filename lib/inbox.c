/* A loop's inbox: how other threads hand work in.
 *
 * Any thread pushes items on a stack; the loop takes the whole stack and turns it round, so that
 * items come out in the order of the pushes. Wake-ups are counted: the bell is rung only when the
 * loop has said that it is about to sleep, and only by the first who comes then.
 *
 *     pusher                            loop
 *     push (read-modify-write)          awake = 0
 *     fence                             fence
 *     awake == 0 ?                      stack empty ?  no: stay awake
 *     waking was 0 ? ring               sleep until it rings
 *
 * Of the two either the loop sees the item or the pusher sees that the loop dozes: each side
 * writes, passes a full barrier and then reads what the other wrote. `waking` is cleared when the
 * loop is roused, for whatever reason: a ring that is still on its way then comes later, which
 * costs one more turn. The bell is silenced whenever it is readable, never on the strength of
 * `waking`.
 *
 * Before it says so the loop may linger for a moment, as long as that pays (spin.c): it is awake
 * meanwhile. With one processor it gives way instead, to the threads of the jobs that it waits for.
 *
 * What is taken out at once may be many items, each in a cache line of another processor. The
 * newest few stand in the line of `head`, which both sides have to get anyway (recent), and each
 * item says which one came a few before it (ahead): so several of them come at a time. They may be
 * gone by then: the addresses are fetched from, never read.
 *
 * Owners: head, puts, recent, awake and waking are atomic; `first`, `spin`, `puts_seen`, `in_vain`,
 * `left_out` and `rests_until` belong to the loop's thread; the bell is fixed. */
#include "config.h"

#include <sched.h>

#include "core.h"

#define LONG_WAY (FERRY__MS / 10) /* others than the jobs' threads had the processor */
#define LONG_REST 64
#define IN_VAIN_MOST 12 /* it is left out 4,095 times */

static struct ferry__item closed_mark;

int ferry__inbox_init(struct ferry__inbox *inbox) {
    atomic_init(&inbox->head, NULL);
    atomic_init(&inbox->awake, 0);
    atomic_init(&inbox->waking, 0);
    inbox->first = NULL;
    inbox->left_out = inbox->in_vain = 0;
    inbox->rests_until = 0;
    ferry__spin_init(&inbox->spin);
    return ferry__bell_init(&inbox->bell);
}

void ferry__inbox_fini(struct ferry__inbox *inbox) {
    ferry__bell_fini(&inbox->bell);
}

static void ring(struct ferry__inbox *inbox) {
    if (atomic_load(&inbox->awake) || atomic_exchange(&inbox->waking, 1))
        return;
    FERRY__POINT(inbox_ring);
    ferry__bell_ring(&inbox->bell);
}

static void remember(struct ferry__inbox *inbox, struct ferry__item *item) {
    unsigned n = atomic_load_explicit(&inbox->puts, memory_order_relaxed);
    const void *_Atomic *place = &inbox->recent[n % FERRY__INBOX_RECENT];
    item->ahead = atomic_load_explicit(place, memory_order_relaxed);
    atomic_store_explicit(place, item, memory_order_relaxed);
    atomic_store_explicit(&inbox->puts, n + 1, memory_order_relaxed);
}

bool ferry__inbox_put(struct ferry__inbox *inbox, struct ferry__item *item) {
    remember(inbox, item);
    struct ferry__item *head = atomic_load_explicit(&inbox->head, memory_order_relaxed);
    do {
        if (head == &closed_mark)
            return false;
        item->next = head;
    } while (!atomic_compare_exchange_weak(&inbox->head, &head, item));
    FERRY__POINT(inbox_pushed);
    ring(inbox);
    return true;
}

static struct ferry__item *turned_round(struct ferry__item *newest) {
    struct ferry__item *oldest = NULL;
    while (newest) {
        struct ferry__item *older = newest->next;
        /* Each comes from another processor: not one after the other. */
        ferry__prefetch_to_write(newest->ahead);
        newest->next = oldest;
        oldest = newest;
        newest = older;
    }
    return oldest;
}

/* Those that came since the last time. */
static void fetch_recent(struct ferry__inbox *inbox) {
    unsigned n = atomic_load_explicit(&inbox->puts, memory_order_relaxed);
    unsigned since = n - inbox->puts_seen;
    inbox->puts_seen = n;
    for (unsigned i = 1; i <= since && i <= FERRY__INBOX_RECENT; i++)
        ferry__prefetch_to_write(atomic_load_explicit(&inbox->recent[(n - i) % FERRY__INBOX_RECENT],
                                                      memory_order_relaxed));
}

struct ferry__item *ferry__inbox_get(struct ferry__inbox *inbox) {
    if (!inbox->first) {
        struct ferry__item *head = atomic_load_explicit(&inbox->head, memory_order_relaxed);
        if (!head || head == &closed_mark)
            return NULL;
        FERRY__POINT(inbox_take);
        fetch_recent(inbox);
        inbox->first = turned_round(atomic_exchange(&inbox->head, NULL));
    }
    struct ferry__item *item = inbox->first;
    inbox->first = item->next;
    return item;
}

/* With one processor nobody can bring anything while this thread looks: it lets the others run
 * instead, so that nobody has to wake it. When there is nothing then it is left out once, three
 * times, ...; when it took long, for so much longer that nothing much is lost by it: who sleeps
 * gets the processor before others that go on and on, who gives way doesn't. */
static bool give_way(struct ferry__inbox *inbox) {
    if (inbox->left_out > 0) {
        inbox->left_out--;
        return false;
    }
    int64_t began = ferry__now();
    if (began < inbox->rests_until)
        return false;
    sched_yield();
    bool waits = ferry__inbox_waits(inbox);
    int64_t now = ferry__now();
    if (now - began > LONG_WAY)
        inbox->rests_until = now + LONG_REST * (now - began);
    if (waits)
        inbox->in_vain = 0;
    else if (inbox->in_vain < IN_VAIN_MOST)
        inbox->in_vain++;
    inbox->left_out = (1u << inbox->in_vain) - 1;
    return waits;
}

bool ferry__inbox_linger(struct ferry__inbox *inbox) {
    if (!inbox->spin.possible)
        return give_way(inbox);
    if (!ferry__spin_pays(&inbox->spin))
        return false;
    struct ferry__spinning s = ferry__spin_begin(&inbox->spin);
    while (!atomic_load_explicit(&inbox->head, memory_order_relaxed) && ferry__spin_on(&s))
        ;
    bool waits = ferry__inbox_waits(inbox);
    ferry__spin_end(&inbox->spin, waits);
    return waits;
}

bool ferry__inbox_waits(struct ferry__inbox *inbox) {
    struct ferry__item *head = atomic_load(&inbox->head);
    return inbox->first || (head && head != &closed_mark);
}

void ferry__inbox_doze(struct ferry__inbox *inbox) {
    atomic_store(&inbox->awake, 0);
    atomic_thread_fence(memory_order_seq_cst);
    FERRY__POINT(inbox_dozed);
}

void ferry__inbox_rouse(struct ferry__inbox *inbox) {
    atomic_store(&inbox->awake, 1);
    FERRY__POINT(inbox_roused);
    atomic_store(&inbox->waking, 0);
}

bool ferry__inbox_sleeps(struct ferry__inbox *inbox) {
    return !atomic_load(&inbox->awake) && !atomic_load(&inbox->waking);
}

void ferry__inbox_empty(struct ferry__inbox *inbox) {
    ferry__bell_silence(&inbox->bell);
}

struct ferry__item *ferry__inbox_close(struct ferry__inbox *inbox) {
    struct ferry__item *taken = inbox->first;
    FERRY__POINT(inbox_close);
    struct ferry__item *rest = atomic_exchange(&inbox->head, &closed_mark);
    inbox->first = NULL;
    rest = rest == &closed_mark ? NULL : turned_round(rest);
    if (!taken)
        return rest;
    struct ferry__item *last = taken;
    while (last->next)
        last = last->next;
    last->next = rest;
    return taken;
}
