/* The library's own version, as configure.ac states it. */

#include "config.h"

#include <ferry/base.h>

const char *ferry_version(void) {
    return PACKAGE_VERSION;
}
