/* The gate: see support.h. Its lock is held for a few instructions; waiting drops it. */

#include "config.h"

#include "support.h"

void gate_init(gate *g) {
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
    g->open = false;
    g->arrived = 0;
}

void gate_destroy(gate *g) {
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
}

void gate_wait(gate *g) {
    pthread_mutex_lock(&g->lock);
    g->arrived++;
    pthread_cond_broadcast(&g->changed);
    while (!g->open) {
        pthread_cond_wait(&g->changed, &g->lock);
    }
    pthread_mutex_unlock(&g->lock);
}

void gate_open(gate *g) {
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

void gate_wait_arrivals(gate *g, unsigned want) {
    pthread_mutex_lock(&g->lock);
    while (g->arrived < want) {
        pthread_cond_wait(&g->changed, &g->lock);
    }
    pthread_mutex_unlock(&g->lock);
}

unsigned gate_arrivals(gate *g) {
    unsigned arrived;

    pthread_mutex_lock(&g->lock);
    arrived = g->arrived;
    pthread_mutex_unlock(&g->lock);
    return arrived;
}
