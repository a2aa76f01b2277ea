/* Peers that are C libraries: whether they were found, and which version. A side of a peer that
 * wasn't found has no function and says why. */
#ifndef FERRY_BENCH_PEERS_H
#define FERRY_BENCH_PEERS_H

#define BENCH_TEXT_OF(x) #x
#define BENCH_TEXT(x) BENCH_TEXT_OF(x)

#ifdef BENCH_UV
#include <uv.h>
#define BENCH_UV_VERSION \
    .version = "libuv " BENCH_TEXT(UV_VERSION_MAJOR) "." BENCH_TEXT( \
        UV_VERSION_MINOR) "." BENCH_TEXT(UV_VERSION_PATCH)
#else
#define BENCH_UV_VERSION .missing = "its headers weren't found (Debian: libuv1-dev)"
#define offload_uv NULL
#define offload_uv_loops NULL
#endif

#ifdef BENCH_GLIB
#include <glib.h>
#define BENCH_GLIB_VERSION \
    .version = "GLib " BENCH_TEXT(GLIB_MAJOR_VERSION) "." BENCH_TEXT( \
        GLIB_MINOR_VERSION) "." BENCH_TEXT(GLIB_MICRO_VERSION)
#else
#define BENCH_GLIB_VERSION .missing = "its headers weren't found (Debian: libglib2.0-dev)"
#define offload_gtask NULL
#define offload_gthreadpool NULL
#endif

#endif
