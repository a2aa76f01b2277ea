/* Switch points: where it matters what another thread does in between.
 *
 * FERRY__POINT(name) stands between two steps that others may come between: a look and the claim
 * that rests on it, a claim and the wake, a request and the kick, "I'm about to sleep" and the last
 * look. In the library it is nothing at all. The tests of races link a second build of the core
 * (libferry_points.la, -DFERRY_POINTS) in which each is a call of ferry__point(), which they define
 * (t/support/points.c): it holds a thread up there for a random time, or until the test has done
 * what is to happen meanwhile.
 *
 * A point may stand under an inner lock, never where a signal handler can come. */
#ifndef FERRY__POINT_H
#define FERRY__POINT_H

#ifdef FERRY_POINTS
void ferry__point(const char *name);
#define FERRY__POINT(name) ferry__point(#name)
#else
#define FERRY__POINT(name) ((void)0)
#endif

#endif
