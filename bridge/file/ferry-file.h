/* The file bridge: files and folders off the event loop.
 *
 * Every function that returns a handle runs its work as one job of `executor` (NULL: the current
 * loop's own, or the process's). For all of them:
 *
 *   - Await the handle, from a task or a thread; or give it to ferry_then(). It is NULL only when
 *     out of memory, and awaiting NULL gives -ENOMEM, so that it needs no check of its own. Besides
 *     the errors listed here it carries those of ferry_submit() (a closed executor, a full queue, a
 *     cancelled scope).
 *   - Starting suspends or blocks only where ferry_submit() does. Any thread, task, job or callback
 *     may call.
 *   - `dirfd` is the folder that a relative `path` starts from: AT_FDCWD, or an open folder that
 *     stays the caller's and must stay open until the handle has ended. Paths are bytes and are
 *     copied; they may be longer than PATH_MAX. NULL is -EINVAL, "" is -ENOENT.
 *   - Out-parameters are written by ferry_await(), and only when the result is >= 0. They may be on
 *     the stack.
 *   - What is said to be borrowed must live, untouched, until the handle has ended: until
 *     ferry_await() has returned, which joins, also when the awaiter is cancelled; or until
 *     ferry_done(). The policy of all jobs here is FERRY_JOB_WAIT: a call that the kernel doesn't
 *     return from (a dead network mount) can't be left.
 *   - -ECANCELED means that nothing was changed and nothing is left behind.
 *   - ferry_errmsg() says what was tried, on which path, and why it failed.
 *
 * The functions without a handle say so.
 */
#ifndef FERRY_FILE_H
#define FERRY_FILE_H

#include <fcntl.h> /* AT_FDCWD */
#include <ferry/base.h>
#include <ferry/executor.h>
#include <ferry/future.h>

FERRY_BEGIN_DECLS

/* ---- What there is to know about a file ------------------------------------------------------ */

/* The letters are those of `find -printf %y`. */
enum ferry_file_type {
    FERRY_FILE_UNKNOWN = 0, /* it could not be looked at */
    FERRY_FILE_REGULAR = 'f',
    FERRY_FILE_FOLDER = 'd',
    FERRY_FILE_SYMLINK = 'l',
    FERRY_FILE_FIFO = 'p',
    FERRY_FILE_SOCKET = 's',
    FERRY_FILE_CHAR_DEVICE = 'c',
    FERRY_FILE_BLOCK_DEVICE = 'b'
};

typedef struct ferry_file_info {
    int type;      /* enum ferry_file_type */
    uint32_t mode; /* as in st_mode: the bits of the type and the permissions */
    uint32_t uid, gid;
    uint64_t dev, inode;
    uint64_t nlink;
    int64_t size;     /* bytes */
    int64_t blocks;   /* of 512 bytes, really taken */
    int64_t atime_ns; /* ns since 1970, UTC, cut to what 64 bits hold (the years 1678 to 2262) */
    int64_t mtime_ns;
    int64_t ctime_ns;
} ferry_file_info;

/* Looks at `path` and writes *info. A symbolic link is followed unless `no_follow`.
 * Result: 0, or -errno of the look: -ENOENT, -EACCES (a folder on the way may not be searched),
 * -ELOOP, ...; -EINVAL when path or info is NULL; -ECANCELED. */
FERRY_API ferry_future *ferry_file_stat(ferry_executor *executor, int dirfd, const char *path,
                                        bool no_follow, ferry_file_info *info);

/* ---- Whole files ----------------------------------------------------------------------------- */

/* Zero is the default of each. */
typedef struct ferry_file_load_options {
    size_t size_max;   /* a file of more bytes is refused with -EFBIG; default: no limit */
    bool no_follow;    /* a symbolic link at the end of the path is refused with -ELOOP */
    void *reserved[4]; /* zero */
} ferry_file_load_options;

/* Reads the whole regular file at `path`. *data gets a block with its bytes, and one zero byte
 * behind them that *size doesn't count; it is the caller's, to be freed with free(). When nobody
 * awaits the handle, the block is freed with it. What st_size says is only a hint: files of /proc
 * (size 0) and files that grow or shrink meanwhile are read up to their end. `options` may be NULL.
 * Result: the size in bytes, or -errno of opening or reading; -EISDIR for a folder; -EINVAL for a
 * FIFO, socket or device (it is never read from, and opening doesn't wait for the other end), or
 * when path, data or size is NULL; -EFBIG; -ENOMEM; -ECANCELED, which is looked for between pieces
 * of at most 1 MiB. */
FERRY_API ferry_future *ferry_file_load(ferry_executor *executor, int dirfd, const char *path,
                                        const ferry_file_load_options *options, void **data,
                                        size_t *size);

/* Zero is the default of each. */
typedef struct ferry_file_replace_options {
    uint32_t mode;     /* permissions of the new file; 0: those of the file that it replaces (and,
                          where allowed, its owner and group), or 0666 less the umask without one */
    bool no_sync;      /* don't wait for the disk: a power failure may leave an empty file */
    void *reserved[4]; /* zero */
} ferry_file_replace_options;

/* Puts a file with `size` bytes from `data` (borrowed; may be NULL when size is 0) in the place of
 * the regular file at `path`, or makes it: whoever opens the path at any time, also after a crash,
 * finds the old file or the new one, whole. A temporary file in the same folder is written, synced
 * and renamed, and then the folder is synced. A killed process may leave one behind, named
 * .ferry-*.tmp; where the system has unnamed temporary files, only when it is killed in the very
 * moment of renaming. Other hard links keep the old content; ACLs and extended attributes aren't
 * taken over; a symbolic link at `path` is replaced itself, and what it points to is untouched.
 * Where owner and group can't be kept, set-user-ID and set-group-ID bits are dropped, and the group
 * is allowed what others are. `options` may be NULL.
 * Result: size, or an error. After an error the old file is there, unchanged, and no temporary file
 * is, with one exception: when syncing the folder fails, the new file is in place, and the detail
 * says so. -errno of any step (-ENOSPC, -EDQUOT, -EACCES, -EROFS, -ENOENT for the folder, ...);
 * -EISDIR for a folder or a path that ends in "/", "." or ".."; -EINVAL for a FIFO, socket or
 * device at `path`, or when path or data is NULL, or for a mode above 07777; -ENOMEM; -ECANCELED,
 * which is looked for between pieces of 1 MiB and last before the renaming. */
FERRY_API ferry_future *ferry_file_replace(ferry_executor *executor, int dirfd, const char *path,
                                           const void *data, size_t size,
                                           const ferry_file_replace_options *options);

/* ---- At an offset ---------------------------------------------------------------------------- */

/* Reads up to `size` bytes at `offset` (bytes from the start) of `fd` into `buffer`, which is
 * borrowed: the worker reads straight into it. The fd stays the caller's, must stay open until the
 * handle has ended, and its own position isn't moved.
 * Result: the bytes read, fewer than `size` only when the file ended; or -errno: -ESPIPE for a pipe
 * or socket, -EBADF, -EISDIR, -EIO, ...; -EINVAL for a negative offset, a size that doesn't fit, or
 * a NULL buffer with a size; -ECANCELED (the buffer may hold some bytes then). */
FERRY_API ferry_future *ferry_file_read_at(ferry_executor *executor, int fd, void *buffer,
                                           size_t size, int64_t offset);

/* Writes `size` bytes from `buffer` (borrowed) at `offset` of `fd`. (With O_APPEND Linux appends
 * instead.)
 * Result: `size`; less only when the caller was cancelled after the first bytes had been written;
 * or -errno (-ENOSPC, -EFBIG, -ESPIPE, -EBADF, ...), where the detail says how many bytes were
 * written before; -EINVAL as above; -ECANCELED: nothing was written. Cancelling is looked for
 * between pieces of 1 MiB. */
FERRY_API ferry_future *ferry_file_write_at(ferry_executor *executor, int fd, const void *buffer,
                                            size_t size, int64_t offset);

/* ---- A file in chunks ------------------------------------------------------------------------ */

/* Gets the next `size` bytes (at least 1) of the file, on the worker's thread. `chunk` is valid
 * during the call only. A negative result ends the scan with that error (ferry_fail() adds a
 * detail); any other goes on. */
typedef int64_t (*ferry_file_chunk_fn)(const void *chunk, size_t size, void *arg);

/* Zero is the default of each. */
typedef struct ferry_file_scan_options {
    size_t chunk_size; /* bytes, 16 MiB at most; default 256 KiB; above 1 MiB nothing is gained */
    bool follow;       /* follow a symbolic link at the end of the path; default: it gives -ELOOP */
    bool no_atime;     /* leave the access time alone, where the system allows it (owner, root) */
    void *reserved[4]; /* zero */
} ferry_file_scan_options;

/* Reads the regular file at `path` from start to end in chunks and calls fn for each, on the
 * worker. A file that fits into one chunk is one call; an empty one is none. `arg` is borrowed. The
 * cancel flag is read before the file is opened and between chunks. `options` may be NULL.
 * Result: the number of bytes that fn got, or what fn returned when negative; -errno of opening or
 * reading; -EISDIR for a folder; -ELOOP; -EINVAL for a FIFO, socket or device (never read from;
 * opening doesn't wait), a chunk_size out of range, or when path or fn is NULL; -ENOMEM;
 * -ECANCELED. */
FERRY_API ferry_future *ferry_file_scan(ferry_executor *executor, int dirfd, const char *path,
                                        const ferry_file_scan_options *options,
                                        ferry_file_chunk_fn fn, void *arg);

/* The same without a handle, on the calling thread, for use inside a job: a job that scans many
 * small files in turn costs one hop for all of them. Buffers are kept and used again, so a small
 * file costs no allocation. `info`, unless NULL, gets what the file looked like when it was opened
 * (also when reading fails later): compare it with what a walk said to know that it is the same
 * file, unchanged. Returns the result as above. Blocks the calling thread while it reads: don't
 * call it on a loop's own thread. Any thread. */
FERRY_API int64_t ferry_file_scan_now(int dirfd, const char *path,
                                      const ferry_file_scan_options *options,
                                      ferry_file_chunk_fn fn, void *arg, ferry_file_info *info);

/* ---- A folder tree --------------------------------------------------------------------------- */

/* A walk goes through a folder and all that is below, in a job, and delivers what it finds in
 * batches through a bounded queue: when nobody takes them, it waits.
 *
 *     ferry_walk *walk;
 *     int64_t rc = ferry_walk_open(&walk, NULL, AT_FDCWD, "/srv", NULL);
 *     if (rc < 0)
 *         return rc;
 *     ferry_walk_batch *batch;
 *     while ((rc = ferry_walk_next(walk, &batch)) == 0) {
 *         for (size_t i = 0; i < batch->count; i++)
 *             use(&batch->entries[i]);
 *         ferry_walk_batch_free(batch);
 *     }
 *     ferry_walk_close(walk);                  // rc is FERRY_END after the last batch
 *
 * Symbolic links are delivered and never followed. A folder comes before what is in it; apart from
 * that the order is the file system's. A folder that contains itself through a mount is delivered
 * with -ELOOP and isn't entered again. Names are bytes. Memory is bounded however many entries a
 * folder or the tree has: it grows with the longest path, and beyond 4 MiB of names of subfolders
 * only where more than 16 such folders are nested. At most 40 files are open at a time however deep
 * the tree is.
 *
 * What happens to single entries is no error of the walk: it is delivered in the entry, and the
 * walk goes on. What is made, removed or renamed meanwhile may be seen or not. */
typedef struct ferry_walk ferry_walk;

typedef struct ferry_walk_entry {
    const char *path;     /* the root as it was given, "/", and the names below; zero-terminated */
    size_t path_size;     /* bytes, without the zero byte */
    size_t relative;      /* path + relative is the path below the root; "" for the root itself */
    size_t name;          /* path + name is the last component (for the root: all of it) */
    size_t depth;         /* 0 for the root */
    int error;            /* 0, or -errno: what could not be done with it; see below */
    ferry_file_info info; /* with an error: what is known; all zero but the type when nothing is */
} ferry_walk_entry;

/* The errors of an entry:
 *   -ENOENT   it vanished before it could be looked at
 *   -EACCES   a folder that may not be read, or an entry that may not be looked at
 *   -ELOOP    a folder that contains itself through a mount: it isn't entered
 *   -ESTALE   a folder was moved or replaced while it was walked: the rest of it is missing
 *   -EIO, ... whatever else the system said
 * A folder whose reading breaks off is delivered a second time, with the error (-ESTALE, -EIO). */

typedef struct ferry_walk_batch {
    const ferry_walk_entry *entries;
    size_t count; /* at least 1 */
} ferry_walk_batch;

/* What an exclude hook answers. */
enum ferry_walk_verdict {
    FERRY_WALK_KEEP = 0, /* deliver it, enter it */
    FERRY_WALK_SKIP = 1, /* neither: as if it weren't there */
    FERRY_WALK_PRUNE = 2 /* deliver it, but don't enter it */
};

/* Zero is the default of each. */
typedef struct ferry_walk_options {
    bool one_device;      /* don't enter folders on other devices than the root's; deliver them */
    bool follow_root;     /* when the root itself is a symbolic link, walk what it points to */
    size_t batch_entries; /* entries in a batch at most; default 1,024; the first are smaller */
    size_t batch_bytes;   /* of paths in a batch at most; default 64 KiB; a longer one is alone */
    size_t queue_batches; /* batches that may wait to be taken; default 4 */

    /* Asked about each entry before it is delivered or entered, on the worker's thread. The entry
     * is valid during the call only. Returns one of enum ferry_walk_verdict; a negative value ends
     * the walk with that error. It must not wait for whoever takes the batches. */
    int (*exclude)(const ferry_walk_entry *entry, void *arg);
    void *exclude_arg;

    /* Called once, when the walk is closed and its job has ended, on the thread that comes last;
     * also when ferry_walk_open() fails. */
    void (*exclude_arg_free)(void *arg);
    void *reserved[4]; /* zero */
} ferry_walk_options;

/* Starts a walk from `root` (copied; a folder, or any file, which is then the only entry). The walk
 * belongs to the scope that it is started in: when that is cancelled, it ends. `options` may be
 * NULL.
 * No handle. Returns 0 and the walk in *walk, to be given back with ferry_walk_close() or
 * ferry_walk_detach(); or -EINVAL when walk or root is NULL or root is ""; -ENOMEM; and the errors
 * of ferry_submit() (-ECANCELED in a cancelled scope, FERRY_ECLOSED, -EAGAIN); *walk is NULL then.
 * Suspends or blocks where ferry_submit() does. Any thread. `executor` needs a thread for the walk
 * until it ends, and `dirfd` must stay open that long (an inline executor gives -EDEADLK at the
 * first ferry_walk_next()); a job of the same executor that takes the batches needs a second one.
 */
FERRY_API int ferry_walk_open(ferry_walk **walk, ferry_executor *executor, int dirfd,
                              const char *root, const ferry_walk_options *options);

/* The next batch, in *batch, to be freed by the caller with ferry_walk_batch_free(); waits until
 * there is one.
 * No handle. Returns 0; FERRY_END after the last batch, again and again; -ECANCELED when the caller
 * was cancelled (nothing was taken); -EINVAL for NULL; FERRY_EJOBCANCELED when the walk was
 * cancelled or its executor closed before it was through; FERRY_EFORKED in the child of a fork();
 * -EDEADLK on a loop's own thread outside a task when it would have to wait (see
 * ferry_walk_ready()); -ENOMEM when the walk ran out of memory; what the exclude hook returned;
 * -errno of looking at the root. Batches that were ready before an error are delivered first.
 * Suspends or blocks. Any thread, several together. */
FERRY_API int ferry_walk_next(ferry_walk *walk, ferry_walk_batch **batch);

/* Frees a batch and the paths in it. NULL is ignored. Any thread; never blocks. */
FERRY_API void ferry_walk_batch_free(ferry_walk_batch *batch);

/* For callbacks: a handle that ends with 0 when ferry_walk_next() wouldn't have to wait (a batch is
 * there, or the walk is over), unless somebody else takes the batch. It may end too early (another
 * call of this function ends the handle of the one before): on a loop's own thread
 * ferry_walk_next() returns -EDEADLK then. FERRY_ECLOSED when the walk is closed meanwhile; -EINVAL
 * for NULL. Never blocks. Any thread. */
FERRY_API ferry_future *ferry_walk_ready(ferry_walk *walk);

/* Tells the walk to stop, waits until its job does nothing any more, discards the batches that
 * nobody took, and frees it. Nobody may use it any more, and nobody may be waiting in
 * ferry_walk_next(). The wait is short and shielded: it also works in a cancelled scope. NULL is
 * ignored.
 * No handle. Returns 0; -EDEADLK on a loop's own thread outside a task when it would have to wait:
 * the walk is still the caller's, stopped, to be detached; FERRY_EFORKED in the child of a fork(),
 * where nothing is done; any other error (-ECANCELED: a hard shutdown ended the wait; -ENOMEM): the
 * walk is detached then. Suspends or blocks. Any thread. */
FERRY_API int ferry_walk_close(ferry_walk *walk);

/* The same without waiting: the walk is told to stop, and its memory goes when its job has ended.
 * Only exclude_arg has to live as long (see exclude_arg_free). NULL is ignored. Never blocks. Any
 * thread. */
FERRY_API void ferry_walk_detach(ferry_walk *walk);

FERRY_END_DECLS

#endif
