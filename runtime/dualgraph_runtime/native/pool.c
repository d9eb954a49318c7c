// The threads that programs share their work among: one pool per process.
//
// A job is a step of a program, its tasks dealt out in one part per thread. Who has finished a part
// helps with the others. Threads join a job as they come; the caller waits for those that have
// joined, never for one that sleeps. One job runs at a time: a caller that finds the pool busy does
// its own work itself, so callers never wait for each other.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

enum { MOST = 64 };  // threads, the caller's included
enum { SPIN_NS = 200000 };             // before a thread without work goes to sleep
static const int64_t SHARE = 2500000;  // picoseconds of work that a thread is worth adding for
static const int64_t WAKE = 20000000;  // and what must come together for one to be woken
static const int64_t LATELY = 1000000; // nanoseconds in which it must

typedef int (*Step)(void *const *b, const int64_t *dims, int64_t first, int64_t last,
                    int64_t thread);

typedef struct Team {
  int (*run)(const struct Team *, Step, void *const *b, const int64_t *dims, int64_t tasks,
             int64_t cost);
  int64_t threads;
} Team;

typedef struct {
  _Alignas(64) _Atomic int64_t next;
  int64_t end;
} Part;

typedef struct {
  _Alignas(64) _Atomic int asleep;
  pthread_cond_t wake;
  pthread_t id;
} Worker;

// The number of the job, shifted by 16; whether threads may join it; how many are in it.
enum { OPEN = 1 << 15, INSIDE = OPEN - 1, NUMBER = 1 << 16 };
static _Alignas(64) _Atomic uint64_t state;
static _Alignas(64) _Atomic int busy;  // whether a caller has the pool
static _Alignas(64) _Atomic int status;

// The job; written while it is closed and nobody is in it.
static struct {
  Step step;
  void *const *b;
  const int64_t *dims;
  int64_t threads;
  Part parts[MOST];
} job;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  // for sleeping
static Worker workers[MOST];                              // the first stands for the caller
static int started = 1;                                   // the caller's thread, and workers
static _Atomic int64_t patience = SPIN_NS;
static int64_t missed, missed_at;  // work that was done alone since all workers sleep, and when

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// Takes some of a part: half of what is left, so that parts end in small pieces.
static int take(Part *part, int64_t *first, int64_t *last) {
  int64_t at = atomic_load_explicit(&part->next, memory_order_relaxed);
  do {
    if (at >= part->end) return 0;
    *last = at + (part->end - at + 1) / 2;
  } while (!atomic_compare_exchange_weak_explicit(&part->next, &at, *last, memory_order_relaxed,
                                                  memory_order_relaxed));
  *first = at;
  return 1;
}

static void work(int64_t thread) {
  for (int64_t i = 0, first, last; i < job.threads; i++) {
    Part *part = &job.parts[(thread + i) % job.threads];
    while (take(part, &first, &last)) {
      const int found = job.step(job.b, job.dims, first, last, thread);
      int known = atomic_load_explicit(&status, memory_order_relaxed);
      while (found > known && !atomic_compare_exchange_weak(&status, &known, found)) continue;
    }
  }
}

// -- workers --------------------------------------------------------------------------------------

static void sleep_until(Worker *me, uint64_t seen) {
  pthread_mutex_lock(&lock);
  atomic_store(&me->asleep, 1);
  while (atomic_load(&state) / NUMBER == seen && atomic_load(&me->asleep))
    pthread_cond_wait(&me->wake, &lock);
  atomic_store(&me->asleep, 0);
  pthread_mutex_unlock(&lock);
}

// Waits for a job with another number than `seen`, awake until a time, which is found out if 0.
static uint64_t next_job(Worker *me, uint64_t seen, int64_t *until) {
  for (unsigned turn = 1;; turn++) {
    const uint64_t s = atomic_load_explicit(&state, memory_order_acquire);
    if (s / NUMBER != seen) return s;
    relax();
    if (turn % 64) continue;
    const int64_t t = now();
    if (!*until) *until = t + patience;
    if (t < *until) continue;
    sleep_until(me, seen);
    *until = 0;
  }
}

static void *worker(void *argument) {
  const int64_t thread = (intptr_t)argument;
  uint64_t seen = 0;
  int64_t until = 0;
  for (;;) {
    uint64_t s = next_job(&workers[thread], seen, &until);
    seen = s / NUMBER;
    while (s / NUMBER == seen && s & OPEN)
      if (atomic_compare_exchange_weak(&state, &s, s + 1)) {
        if (thread < job.threads) {
          work(thread);
          until = 0;
        }
        atomic_fetch_sub_explicit(&state, 1, memory_order_release);
        break;
      }
  }
  return NULL;
}

// In a child process there are no workers, and no job is running.
static void after_fork(void) {
  pthread_mutex_init(&lock, NULL);
  atomic_store(&state, 0);
  atomic_store(&busy, 0);
  started = 1;
}

// Workers run anywhere but where the caller is: one that wakes up there would halve the speed.
static void keep_off_caller(void) {
#ifdef __linux__
  static cpu_set_t before;
  static int known;
  cpu_set_t allowed;
  const int here = sched_getcpu();
  if (here < 0 || sched_getaffinity(0, sizeof allowed, &allowed)) return;
  atomic_store(&patience, started <= CPU_COUNT(&allowed) ? SPIN_NS : 0);
  CPU_CLR(here, &allowed);
  if (!CPU_COUNT(&allowed) || (known == started && CPU_EQUAL(&allowed, &before))) return;
  before = allowed;
  known = started;
  for (int i = 1; i < started; i++) pthread_setaffinity_np(workers[i].id, sizeof allowed, &allowed);
#endif
}

static void start(int64_t threads) {
  static int prepared;
  if (!prepared) {
    prepared = 1;
    pthread_atfork(NULL, NULL, after_fork);
  }
  sigset_t all, before;  // signals are for the caller's threads
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t detached;
  pthread_attr_init(&detached);
  pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
  for (; started < threads; started++) {
    pthread_cond_init(&workers[started].wake, NULL);
    atomic_store(&workers[started].asleep, 0);
    if (pthread_create(&workers[started].id, &detached, worker, (void *)(intptr_t)started)) break;
  }
  pthread_attr_destroy(&detached);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  keep_off_caller();
}

static int all_asleep(int64_t threads) {
  for (int64_t i = 1; i < threads; i++)
    if (!atomic_load_explicit(&workers[i].asleep, memory_order_relaxed)) return 0;
  return 1;
}

// Whether sleeping workers are to be left alone, since there has been little for them to do.
static int spare(int64_t cost) {
  const int64_t t = now();
  if (t - missed_at > LATELY) missed = 0;
  missed_at = t;
  missed += cost;
  if (missed < WAKE) return 1;
  missed = 0;
  keep_off_caller();
  return 0;
}

static void wake(int64_t threads) {
  for (int64_t i = 1; i < threads; i++)
    if (atomic_load(&workers[i].asleep)) {
      pthread_mutex_lock(&lock);
      atomic_store(&workers[i].asleep, 0);
      pthread_cond_signal(&workers[i].wake);
      pthread_mutex_unlock(&lock);
    }
}

// -- callers --------------------------------------------------------------------------------------

static int run(const Team *team, Step step, void *const *b, const int64_t *dims, int64_t tasks,
               int64_t cost) {
  int64_t threads = 1 + cost / SHARE;
  if (threads > team->threads) threads = team->threads;
  if (threads > tasks) threads = tasks;
  if (threads < 2 || atomic_exchange(&busy, 1)) return step(b, dims, 0, tasks, 0);
  if (started < threads) start(threads);
  if (threads > started) threads = started;
  if (threads < 2 || (all_asleep(threads) && spare(cost))) {
    atomic_store_explicit(&busy, 0, memory_order_release);
    return step(b, dims, 0, tasks, 0);
  }
  job.step = step;
  job.b = b;
  job.dims = dims;
  job.threads = threads;
  for (int64_t i = 0; i < threads; i++) {
    atomic_store_explicit(&job.parts[i].next, tasks * i / threads, memory_order_relaxed);
    job.parts[i].end = tasks * (i + 1) / threads;
  }
  atomic_store_explicit(&status, 0, memory_order_relaxed);
  const uint64_t number = atomic_load_explicit(&state, memory_order_relaxed) / NUMBER + 1;
  atomic_store(&state, number * NUMBER + OPEN);
  wake(threads);
  work(0);
  atomic_fetch_and(&state, ~(uint64_t)OPEN);
  for (unsigned turn = 1; atomic_load_explicit(&state, memory_order_acquire) & INSIDE; turn++) {
    relax();
    if (turn % 4096 == 0) sched_yield();
  }
  const int found = atomic_load_explicit(&status, memory_order_relaxed);
  atomic_store_explicit(&busy, 0, memory_order_release);
  return found;
}

static Team teams[MOST + 1];

static void make_teams(void) {
  for (int64_t i = 0; i <= MOST; i++) teams[i] = (Team){run, i};
}

// The team of so many threads, for the third argument of a program's functions.
const Team *dualgraph_team(int64_t threads) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, make_teams);
  if (threads > MOST) threads = MOST;
  return threads < 2 ? NULL : &teams[threads];
}
