/* What ferry-index exits with. */
#ifndef FERRY_INDEX_STATUS_H
#define FERRY_INDEX_STATUS_H

enum {
    STATUS_FINE = 0,
    STATUS_DIFFERENT = 1, /* entries that could not be read, or differences that --verify found */
    STATUS_USAGE = 2,
    STATUS_FATAL = 3,
    STATUS_SIGNAL = 128 /* and the signal's number */
};

#endif
