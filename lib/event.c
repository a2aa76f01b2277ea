/* An event: a flag that tasks and threads wait for.
 *
 * Whoever waits when it is set goes on, even if it is cleared before they run: each was granted its
 * wait inside ferry_event_set(). Who comes later looks at the flag.
 *
 * Every look takes the inner lock, is_set too: so whoever has seen the event set may free it, and
 * can be sure that the setter doesn't touch it any more. */
#include "config.h"

#include <errno.h>

#include "line.h"

int ferry_event_wait_for(ferry_event *event, int64_t ms) {
    struct ferry__ctx *ctx;
    int rc = ferry__enter_self(&ctx);
    if (rc != 0)
        return rc;
    ferry__lock(&event->lock);
    if (event->set) {
        ferry__unlock(&event->lock);
        return 0;
    }
    struct ferry__waiter w;
    ferry__waiter_init(&w, ctx);
    return ferry__line_wait(&event->lock, &event->first, &event->last, &w, "event", ms);
}

int ferry_event_wait(ferry_event *event) {
    return ferry_event_wait_for(event, FERRY_FOREVER);
}

void ferry_event_set(ferry_event *event) {
    struct ferry__wakes wakes = {0};
    ferry__lock(&event->lock);
    event->set = true;
    ferry__line_claim_all(&event->first, &event->last, 0, &wakes);
    ferry__unlock(&event->lock);
    ferry__wake_all(&wakes);
}

void ferry_event_clear(ferry_event *event) {
    ferry__lock(&event->lock);
    event->set = false;
    ferry__unlock(&event->lock);
}

bool ferry_event_is_set(ferry_event *event) {
    ferry__lock(&event->lock);
    bool set = event->set;
    ferry__unlock(&event->lock);
    return set;
}
