// Native kernels behind a plain C interface: no torch at build time, loaded through ctypes.
//
// Work runs on torch's own OpenMP threads where Python hands their entry point over: they wait for
// work by spinning, and threads of ours beside them would share their cores. A forked child (a
// DataLoader worker) has none of them and would wait for ever, so there, as everywhere without
// OpenMP, threads are started for each call and joined before it returns. How work is parted
// depends on shapes alone, so results do not depend on the number of threads.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#ifdef __unix__
#include <pthread.h>
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

static const int CHUNK = 32;         // tokens between two kept states
static const int TILE = 64;          // tokens a task of what is not recurrent
static const int FEW = 16;           // tokens a convolution goes through at once
static const int MOST_STATES = 256;  // states a channel
static const int64_t PIECE = 65536;  // elements a task of what is elementwise

struct Half {
  uint16_t bits;
};

// The structures mirror those of the same names in Python, field by field. Strides are in
// elements; channels lie side by side. Documents lie one after the other: `starts` has the place of
// each one's first token, and the number of tokens at its end. Pointers not needed are null. What
// is void is bfloat16 if `half`, else float32.
struct ScanArguments {
  int64_t documents, d, n, groups, ranges, range, softplus, half;
  int64_t u_t, delta_t, z_t, dout_t;
  const int64_t *starts, *chunk_starts;
  const void *u, *delta, *z;
  const float *A, *B, *C, *D, *bias, *initial;
  void *out;
  float *last, *states;
  const void *dout;
  const float *dlast;
  void *du, *ddelta, *dz;
  float *dA, *dB, *dC, *dD, *dbias, *dinitial;
};

struct ConvArguments {
  int64_t d, k, tiles, silu, half, x_t, dout_t;
  const int64_t *starts, *tile_starts, *tile_documents;
  const void *x;
  const float *weight, *bias, *initial;
  void *out;
  const void *dout;
  void *dx;
  float *dweight, *dinitial;
};

struct NormArguments {
  int64_t tokens, d, half;
  double eps;
  const float *x, *weight;
  void *out;
  float *scale;
  const void *dout;
  float *dx, *dweight;
};

struct DropoutArguments {
  int64_t count, half, seed;
  double rate;
  const void *x;
  void *out;
};

typedef void (*Task)(const ScanArguments &, int64_t);
typedef void (*ConvTask)(const ConvArguments &, int64_t);
typedef void (*NormTask)(const NormArguments &, int64_t);

// Zeroed float32 numbers on a boundary that every vector fits.
struct Memory {
  float *floats;
  explicit Memory(int64_t count) {
    const size_t bytes = ((size_t)count * sizeof(float) + 63) / 64 * 64;
    floats = (float *)std::aligned_alloc(64, bytes);
    if (!floats) throw std::bad_alloc();
    std::memset((void *)floats, 0, bytes);
  }
  ~Memory() { std::free(floats); }
  Memory(const Memory &) = delete;
  Memory &operator=(const Memory &) = delete;
};

#if defined(__x86_64__)
#include <immintrin.h>
#define X86 1
#endif

// Whole loops over the states, so that these stay in registers.
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(enable)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#ifdef X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
namespace avx512 {
#define WIDTH 16
#include "vector.inc"
#include "scan.inc"
#include "conv.inc"
#include "norm.inc"
#include "dropout.inc"
#undef WIDTH
}  // namespace avx512
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#define WIDTH 8
#include "vector.inc"
#include "scan.inc"
#include "conv.inc"
#include "norm.inc"
#include "dropout.inc"
#undef WIDTH
}  // namespace avx2
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

namespace baseline {
#define WIDTH 4
#include "vector.inc"
#include "scan.inc"
#include "conv.inc"
#include "norm.inc"
#include "dropout.inc"
#undef WIDTH
}  // namespace baseline

// 16, 8 or 4 channels a vector: the widest this processor has.
EXPORT int longdoc_best_width() {
#ifdef X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    return 16;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 8;
#endif
  return 4;
}

#ifdef X86
#define CHOOSE(width, expression) \
  (width == 16 ? avx512::expression : width == 8 ? avx2::expression : baseline::expression)
#else
#define CHOOSE(width, expression) baseline::expression
#endif

// GOMP_parallel of the OpenMP library that torch runs on.
typedef void (*Pool)(void (*)(void *), void *, unsigned, unsigned);
static std::atomic<Pool> pool{nullptr};

static void forget_pool() { pool = nullptr; }

EXPORT void longdoc_use_pool(void *entry) {
  static std::atomic<bool> registered{false};
#ifdef __unix__
  if (!registered.exchange(true)) pthread_atfork(nullptr, nullptr, forget_pool);
  pool = (Pool)entry;
#else
  (void)entry;
#endif
}

// Tasks in turn on several threads. False where memory does not suffice; then nothing is whole.
template <class Arguments>
static bool run(const Arguments &s, void (*task)(const Arguments &, int64_t), int64_t tasks, int threads) {
  std::atomic<int64_t> next{0};
  std::atomic<bool> whole{true};
  auto work = [&] {
    try {
      for (int64_t i = next++; i < tasks; i = next++) task(s, i);
    } catch (const std::bad_alloc &) {
      whole = false;
    }
  };
  const Pool shared = pool;
  if (shared && threads > 1 && tasks > 1) {
    void (*enter)(void *) = [](void *data) { (*(decltype(work) *)data)(); };
    shared(enter, &work, (unsigned)std::min<int64_t>(threads, tasks), 0);
    return whole;
  }
  std::vector<std::thread> others;
  try {
    for (int i = 1; i < threads && i < tasks; i++) others.emplace_back(work);
  } catch (...) {
    // No more threads to be had: those there are do the work.
  }
  work();
  for (auto &other : others) other.join();
  return whole;
}

// So that Python can tell a library that was built from other sources.
EXPORT int64_t longdoc_size(int which) {
  const int64_t sizes[] = {CHUNK, TILE, MOST_STATES, sizeof(ScanArguments), sizeof(ConvArguments), sizeof(NormArguments), sizeof(DropoutArguments)};
  return sizes[which];
}

// Adds what the ranges of a group made of the gradients of B and C to what its first made.
static void fold_ranges(const ScanArguments &s, int64_t task) {
  const int64_t size = s.starts[s.documents] * s.n;
  float *to = (task % 2 ? s.dB : s.dC) + task / 2 * s.ranges * size;
  for (int64_t range = 1; range < s.ranges; range++)
    for (int64_t i = 0; i < size; i++) to[i] += to[range * size + i];
}

static int scan(const ScanArguments &s, int width, int threads, bool forward) {
  const Task task = s.half ? CHOOSE(width, scan_task<Half>(s, forward)) : CHOOSE(width, scan_task<float>(s, forward));
  const bool whole = run(s, task, s.documents * s.groups * s.ranges, threads);
  return whole && (forward || run(s, fold_ranges, 2 * s.groups, threads));
}

EXPORT int longdoc_scan_forward(const ScanArguments *s, int width, int threads) {
  return scan(*s, width, threads, true);
}

EXPORT int longdoc_scan_backward(const ScanArguments *s, int width, int threads) {
  return scan(*s, width, threads, false);
}

static int conv(const ConvArguments &s, int width, int threads, bool forward) {
  const ConvTask task = s.half ? CHOOSE(width, conv_task<Half>(s, forward)) : CHOOSE(width, conv_task<float>(s, forward));
  return run(s, task, s.tiles, threads);
}

EXPORT int longdoc_conv_forward(const ConvArguments *s, int width, int threads) {
  return conv(*s, width, threads, true);
}

EXPORT int longdoc_conv_backward(const ConvArguments *s, int width, int threads) {
  return conv(*s, width, threads, false);
}

EXPORT int longdoc_norm_forward(const NormArguments *s, int width, int threads) {
  const NormTask task = s->half ? CHOOSE(width, norm_forward_task<Half>) : CHOOSE(width, norm_forward_task<float>);
  return run(*s, task, (s->tokens + TILE - 1) / TILE, threads);
}

EXPORT int longdoc_norm_backward(const NormArguments *s, int width, int threads) {
  const NormTask task = s->half ? CHOOSE(width, norm_backward_task<Half>) : CHOOSE(width, norm_backward_task<float>);
  return run(*s, task, (s->tokens + TILE - 1) / TILE, threads);
}

EXPORT int longdoc_dropout(const DropoutArguments *s, int width, int threads) {
  void (*task)(const DropoutArguments &, int64_t) =
      s->half ? CHOOSE(width, dropout_task<Half>) : CHOOSE(width, dropout_task<float>);
  return run(*s, task, (s->count + PIECE - 1) / PIECE, threads);
}
