// Native kernels behind a plain C interface: no torch at build time, loaded through ctypes.
//
// Threads are started for each call and joined before it returns. Nothing outlives a call, so a
// forked child (a DataLoader worker) can call in as well as its parent.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

static const int CHUNK = 32;         // tokens between two kept states
static const int RANGE = 128;        // channels a task: fixed, so results do not depend on threads
static const int MOST_STATES = 256;  // states a channel

// Mirrors ScanArguments in selective_scan/compiled.py, field by field. Strides are in elements;
// channels lie side by side. Pointers that are not needed are null.
struct ScanArguments {
  int64_t b, d, l, n, groups, softplus, chunks, ranges;
  int64_t u_b, u_t, delta_b, delta_t, z_b, z_t;
  const float *u, *delta, *A, *B, *C, *D, *z, *bias, *initial;
  float *out, *last, *states;
  const float *dout, *dlast;
  float *du, *ddelta, *dA, *dB, *dC, *dD, *dz, *dbias, *dinitial;
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
#include "scan.inc"
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
#include "scan.inc"
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
#include "scan.inc"
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

typedef void (*Task)(const ScanArguments &, int64_t);

static Task choose(int width, bool forward) {
#ifdef X86
  if (width == 16) return forward ? avx512::forward : avx512::backward;
  if (width == 8) return forward ? avx2::forward : avx2::backward;
#endif
  return forward ? baseline::forward : baseline::backward;
}

static void run(const ScanArguments &s, Task task, int threads) {
  const int64_t tasks = s.b * s.groups * s.ranges;
  std::atomic<int64_t> next{0};
  auto work = [&] {
    for (int64_t i = next++; i < tasks; i = next++) task(s, i);
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads && i < tasks; i++) others.emplace_back(work);
  work();
  for (auto &other : others) other.join();
}

EXPORT int longdoc_scan_sizes(int which) {
  const int sizes[] = {CHUNK, RANGE, MOST_STATES, (int)sizeof(ScanArguments)};
  return sizes[which];
}

EXPORT void longdoc_scan_forward(const ScanArguments *s, int width, int threads) {
  run(*s, choose(width, true), threads);
}

EXPORT void longdoc_scan_backward(const ScanArguments *s, int width, int threads) {
  run(*s, choose(width, false), threads);
}
