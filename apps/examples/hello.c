/* Three blocking calls at once, under one deadline.
 *
 * getaddrinfo, stat and sleep all block. As jobs they run on threads, at the same time, and the
 * task that awaits them reads like the straight-line code that it replaces. What isn't done
 * after two seconds is cancelled. */
#include <ferry.h>

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int64_t resolve(void *arg) {
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(arg, NULL, NULL, &list);
    if (rc != 0)
        return ferry_fail(-1, "cannot resolve '%s': %s", (const char *)arg, gai_strerror(rc));
    int64_t n = 0;
    for (struct addrinfo *a = list; a; a = a->ai_next)
        n++;
    freeaddrinfo(list);
    return n;
}

static int64_t size_of(void *arg) {
    struct stat st;
    return stat(arg, &st) == 0 ? (int64_t)st.st_size
                               : ferry_fail(-1, "cannot look at '%s'", (const char *)arg);
}

static int64_t legacy(void *arg) {
    (void)arg;
    usleep(20000); /* a library that takes its time */
    return 42;
}

static int64_t hello(void *arg) {
    (void)arg;
    static char host[] = "localhost", path[] = "/etc/passwd";
    ferry_scope deadline = FERRY_SCOPE_INIT;
    ferry_scope_open(&deadline, 2000);

    ferry_future *addresses = ferry_submit(NULL, resolve, host);
    ferry_future *bytes = ferry_submit(NULL, size_of, path);
    ferry_future *answer = ferry_submit(NULL, legacy, NULL);

    int64_t a = ferry_await(addresses), b = ferry_await(bytes), c = ferry_await(answer);

    int64_t rc = ferry_scope_close(&deadline, a < 0 ? a : b < 0 ? b : c < 0 ? c : 0);
    if (rc < 0) {
        fprintf(stderr, "hello: %s\n", ferry_errmsg());
        return rc;
    }
    printf("localhost has %lld addresses, /etc/passwd %lld bytes, the answer is %lld\n",
           (long long)a, (long long)b, (long long)c);
    return 0;
}

int main(void) {
    return ferry_run(hello, NULL) < 0;
}
