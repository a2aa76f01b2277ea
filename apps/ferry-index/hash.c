/* The SHA-256 of files. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include <ferry/error.h>
#include <ferry/future.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include "hash.h"

#define TRIES 2

static int64_t crypto_failed(struct hasher *hasher) {
    char text[256];
    unsigned long error = ERR_get_error();
    hasher->broken = true;
    ERR_error_string_n(error, text, sizeof text);
    ERR_clear_error();
    return ferry_fail(ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE ? -ENOMEM : -ENOTSUP,
                      "libcrypto could not compute a SHA-256: %s", text);
}

int64_t hasher_init(struct hasher *hasher, struct counts *counts) {
    *hasher = (struct hasher){.counts = counts};
    hasher->algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
    hasher->context = EVP_MD_CTX_new();
    return hasher->algorithm && hasher->context ? 0 : crypto_failed(hasher);
}

void hasher_free(struct hasher *hasher) {
    EVP_MD_CTX_free(hasher->context);
    EVP_MD_free(hasher->algorithm);
    OPENSSL_thread_stop(); /* the thread may still be ending when the program has */
    *hasher = (struct hasher){0};
}

static int64_t digest_chunk(const void *chunk, size_t size, void *arg) {
    struct hasher *hasher = arg;
    if (!EVP_DigestUpdate(hasher->context, chunk, size))
        return crypto_failed(hasher);
    hasher->read += (int64_t)size;
    count_add(&hasher->counts->read_bytes, size);
    count_add(&hasher->counts->settled_bytes, size);
    return 0;
}

static void write_hex(char *out, const unsigned char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        out[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
}

/* As ferry_file_info says it: cut to what 64 bits hold. */
static int64_t mtime_ns(const struct stat *st) {
    int64_t ns;
    if (__builtin_mul_overflow((int64_t)st->st_mtim.tv_sec, INT64_C(1000000000), &ns) ||
        __builtin_add_overflow(ns, (int64_t)st->st_mtim.tv_nsec, &ns))
        return st->st_mtim.tv_sec < 0 ? INT64_MIN : INT64_MAX;
    return ns;
}

static int64_t look(const struct record *record, ferry_file_info *info) {
    struct stat st;
    if (fstatat(AT_FDCWD, record->path, &st, record->follow ? 0 : AT_SYMLINK_NOFOLLOW) == 0) {
        *info = (ferry_file_info){
            .dev = st.st_dev, .inode = st.st_ino, .size = st.st_size, .mtime_ns = mtime_ns(&st)};
        return 0;
    }
    if (errno != ENAMETOOLONG)
        return -errno;
    /* The bridge can, but it takes a job of its own: only for paths that the system can't. */
    return ferry_await(ferry_file_stat(NULL, AT_FDCWD, record->path, !record->follow, info));
}

/* Whether the file is still what it was when it was opened: 0, ENTRY_CHANGING, or -errno. */
static int64_t look_again(const struct record *record) {
    ferry_file_info info;
    int64_t rc = look(record, &info);
    if (rc < 0)
        return rc;
    return info.dev == record->dev && info.inode == record->inode && info.size == record->size &&
                   info.mtime_ns == record->mtime_ns
               ? 0
               : ENTRY_CHANGING;
}

/* What is wrong with the machine or the program, and not with the file. */
static bool is_fatal(const struct hasher *hasher, int64_t rc) {
    return hasher->broken || rc == -ECANCELED || rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE;
}

/* Returns 0 when the hash is right, ENTRY_CHANGING or another error of the file, or an error that
 * is_fatal(). */
static int64_t read_once(struct hasher *hasher, struct record *record) {
    const ferry_file_scan_options options = {.follow = record->follow, .no_atime = true};
    ferry_file_info info = {0};
    if (!EVP_DigestInit_ex2(hasher->context, hasher->algorithm, NULL))
        return crypto_failed(hasher);
    int64_t rc = ferry_file_scan_now(AT_FDCWD, record->path, &options, digest_chunk, hasher, &info);
    if (info.mode != 0)
        record_set_info(record, &info);
    /* Something else has taken the place of the regular file. */
    if (rc == -EISDIR || rc == -EINVAL || (rc == -ELOOP && !record->follow))
        return ENTRY_CHANGING;
    return rc < 0 ? rc : look_again(record);
}

static int64_t finish(struct hasher *hasher, struct record *record) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size;
    if (!EVP_DigestFinal_ex(hasher->context, digest, &size))
        return crypto_failed(hasher);
    write_hex(record->sha256, digest, SHA256_HEX / 2);
    record->hash = HASH_FRESH;
    count_add(&hasher->counts->hashed, 1);
    count_add(&hasher->counts->hashed_bytes, (uint64_t)hasher->read);
    return 0;
}

int64_t hasher_read(struct hasher *hasher, struct record *record) {
    int64_t planned = record->size, rc = ENTRY_CHANGING;
    int64_t read = 0;
    for (int i = 0; i < TRIES && rc == ENTRY_CHANGING; i++) {
        hasher->read = 0;
        rc = read_once(hasher, record);
        read += hasher->read;
    }
    if (rc == 0)
        rc = finish(hasher, record);
    if (is_fatal(hasher, rc))
        return rc;
    if (rc == -ENOENT || rc == -ENOTDIR)
        record->gone = true;
    else
        record->error = (int)rc;
    count_add(&hasher->counts->settled, 1);
    count_add(&hasher->counts->settled_bytes, (uint64_t)(planned - read)); /* may be less, too */
    return 0;
}
