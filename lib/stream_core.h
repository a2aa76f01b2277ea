/* What streams of any kind have in common: see stream.c. */
#ifndef FERRY__STREAM_CORE_H
#define FERRY__STREAM_CORE_H

#include "line.h"

/* What a kind of stream does. */
struct ferry__stream_kind {
    /* ferry_stream_next_for(), and with `wait` false ferry_stream_try_next(). *item is NULL. */
    int64_t (*next)(ferry_stream *stream, struct ferry__ctx *ctx, void **item, int64_t ms,
                    bool wait);
    int (*start)(ferry_stream *stream, struct ferry__ctx *ctx);
    /* Has a waiter woken when next() needn't wait any more; one at a time. False: it needn't now.
     * In both cases disarm() before the record goes; it may have been granted until then. */
    bool (*arm)(ferry_stream *stream, struct ferry__either *looker);
    void (*disarm)(ferry_stream *stream);
    void (*stop)(ferry_stream *stream);
    /* Whether a close would have to wait. Then it stops, joins, and says how it ended; an error
     * with `false` in *closed: nothing was freed. ctx is NULL without memory for a record. */
    bool (*busy)(ferry_stream *stream);
    int64_t (*join)(ferry_stream *stream, struct ferry__ctx *ctx, bool *closed);
    void (*destroy)(ferry_stream *stream); /* frees what is the kind's, and the record */
};

struct ferry_stream {
    const struct ferry__stream_kind *kind; /* fixed */
    _Atomic int refs;
    uint32_t generation;       /* fixed */
    ferry_loop *home;          /* a reference; NULL: made outside of any loop. Fixed */
    ferry_stream *next, *prev; /* home's streams: under its streams_lock */
    bool told;                 /* under that lock: a shutdown has stopped it */
    /* What a shutdown waits for; references until the close; NULL: nothing. */
    ferry_future *producer;
    ferry_executor *strand;
};

/* Begins with `refs` references, on the list of the current loop. */
void ferry__stream_init(ferry_stream *stream, const struct ferry__stream_kind *kind, int refs,
                        struct ferry__ctx *ctx);
/* A stream that is to be stopped while its consumer may close it: references on it, and on what it
 * uses until the close. Whoever holds it sees to it that it isn't closed yet. */
struct ferry__stream_held {
    ferry_stream *stream; /* NULL: none */
    ferry_future *producer;
    ferry_executor *strand;
};
void ferry__stream_hold(struct ferry__stream_held *held, ferry_stream *stream);
void ferry__stream_let_go(const struct ferry__stream_held *held); /* may free it: no lock */
/* No stream could be made: NULL, with errno and the error set. `ctx` may be NULL. */
ferry_stream *ferry__stream_refuse(struct ferry__ctx *ctx, int code, struct ferry__detail *why);

#endif
