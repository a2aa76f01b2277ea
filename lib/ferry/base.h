/* What every other header of libferry rests on: types, time and linkage. */
#ifndef FERRY_BASE_H
#define FERRY_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define FERRY_BEGIN_DECLS extern "C" {
#define FERRY_END_DECLS }
#define FERRY_ZERO {}
#else
#define FERRY_BEGIN_DECLS
#define FERRY_END_DECLS
#define FERRY_ZERO {0}
#endif

#if defined(__GNUC__)
#define FERRY_API __attribute__((visibility("default")))
#define FERRY_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define FERRY_MUST_USE __attribute__((warn_unused_result))
#else
#define FERRY_API
#define FERRY_PRINTF(fmt, first)
#define FERRY_MUST_USE
#endif

FERRY_BEGIN_DECLS

/* A function that a task or a job runs. A result >= 0 is a success; < 0 is an error code:
 * -errno, one of enum ferry_errno, or a bridge's own. Details for people are added with
 * ferry_fail(). */
typedef int64_t (*ferry_fn)(void *arg);

typedef struct ferry_future ferry_future;     /* a handle: see future.h */
typedef struct ferry_loop ferry_loop;         /* an event loop: see loop.h */
typedef struct ferry_executor ferry_executor; /* where jobs run: see executor.h */
typedef struct ferry_scope ferry_scope;       /* see scope.h */
typedef struct ferry_group ferry_group;       /* see group.h */
typedef struct ferry_limiter ferry_limiter;   /* see limiter.h */

/* Time-outs are relative, in milliseconds. A negative one has expired already; "for ever" is
 * this. */
#define FERRY_FOREVER INT64_MAX

/* The version that a program was compiled with, and the one that it runs with. */
#define FERRY_VERSION "0.1.0"
#define FERRY_VERSION_NUMBER 0x000100
FERRY_API const char *ferry_version(void);

FERRY_END_DECLS

#endif
