/* Ferry: blocking calls as awaitable handles, for tasks, callbacks and threads alike.
 *
 * This header brings in the whole of libferry; each header below ferry/ also stands alone.
 */
#ifndef FERRY_H
#define FERRY_H

#include <ferry/alloc.h>
#include <ferry/background.h>
#include <ferry/barrier.h>
#include <ferry/base.h>
#include <ferry/channel.h>
#include <ferry/cond.h>
#include <ferry/defer.h>
#include <ferry/error.h>
#include <ferry/event.h>
#include <ferry/executor.h>
#include <ferry/future.h>
#include <ferry/gather.h>
#include <ferry/group.h>
#include <ferry/io.h>
#include <ferry/limiter.h>
#include <ferry/local.h>
#include <ferry/log.h>
#include <ferry/loop.h>
#include <ferry/map.h>
#include <ferry/mutex.h>
#include <ferry/pool.h>
#include <ferry/queue.h>
#include <ferry/rwlock.h>
#include <ferry/scope.h>
#include <ferry/semaphore.h>
#include <ferry/signal.h>
#include <ferry/stream.h>
#include <ferry/task.h>

#endif
