// Several callers share the pool; every task must run once per call, with a thread number of its own.
#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int (*Step)(void *const *, const int64_t *, int64_t, int64_t, int64_t);
typedef struct Team {
  int (*run)(const struct Team *, Step, void *const *, const int64_t *, int64_t, int64_t);
} Team;
const Team *dualgraph_team(int64_t threads);

enum { MOST = 1000, THREADS = 4 };

typedef struct {
  int counts[MOST];          // of the tasks
  long rows[THREADS][16];    // scratch memory of each thread
} Memory;

static int step(void *const *b, const int64_t *dims, int64_t first, int64_t last, int64_t thread) {
  Memory *m = b[0];
  assert(thread < THREADS);
  for (int64_t i = first; i < last; i++) {
    m->counts[i]++;
    for (int j = 0; j < 16; j++) m->rows[thread][j] += i;
  }
  return first <= dims[0] && dims[0] < last ? 7 : 0;
}

static void *caller(void *argument) {
  unsigned seed = (unsigned)(intptr_t)argument;
  Memory *m = malloc(sizeof *m);
  void *table[] = {m};
  for (int round = 0; round < 2000; round++) {
    const int64_t tasks = 2 + rand_r(&seed) % (MOST - 2), wrong = rand_r(&seed) % (2 * MOST);
    const Team *team = dualgraph_team(2 + rand_r(&seed) % (THREADS - 1));
    memset(m, 0, sizeof *m);
    const int64_t cost = 1000000 * (int64_t)(rand_r(&seed) % 100);
    const int status = team->run(team, step, table, &wrong, tasks, cost);
    assert(status == (wrong < tasks ? 7 : 0));
    long sum = 0;
    for (int64_t i = 0; i < MOST; i++) assert(m->counts[i] == (i < tasks));
    for (int i = 0; i < THREADS; i++) sum += m->rows[i][3];
    assert(sum == tasks * (tasks - 1) / 2);
    if (rand_r(&seed) % 50 == 0) usleep(300);  // long enough for workers to fall asleep
  }
  free(m);
  return NULL;
}

int main(void) {
  pthread_t callers[3];
  for (intptr_t i = 0; i < 3; i++) pthread_create(&callers[i], NULL, caller, (void *)(i + 1));
  for (int i = 0; i < 3; i++) pthread_join(callers[i], NULL);
  return 0;
}
