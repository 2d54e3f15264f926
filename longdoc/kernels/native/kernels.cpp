// Native kernels behind a plain C interface: no torch at build time, loaded through ctypes.
//
// Work runs on torch's own OpenMP threads where Python hands their entry point over: they wait for
// work by spinning, and threads of ours beside them would share their cores. A forked child (a
// DataLoader worker) has none of them and would wait for ever, so there, as everywhere without
// OpenMP, threads are started for each call and joined before it returns. How work is parted
// depends on shapes alone, so results do not depend on the number of threads.

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

#ifdef __unix__
#include <pthread.h>
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

static const int SPAN = 128;         // tokens between two kept states
static const int CHUNK = 32;         // tokens read and written at once
static const int SUB = 8;            // tokens whose states are all there at once, going back
static const int TILE = 64;          // tokens a task of what is not recurrent
static const int FEW = 16;           // tokens a convolution goes through at once
static const int MOST_STATES = 256;  // states a channel
static const int PANEL = 32;         // columns that a product's packed factor has room for at a time
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
  int64_t u_t, delta_t, z_t, dout_t, dz_t;
  const int64_t *starts, *span_starts;
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
  int64_t d, k, tiles, silu, half, x_t, dout_t, dx_t;
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
  const float *through;
  float *dx, *dweight;
};

struct AddArguments {
  int64_t count, half;
  const float *x;
  const void *y;
  float *out;
};

struct DropoutArguments {
  int64_t count, half, seed, add;
  double rate;
  const void *x;
  void *out;
};

// `out` is the gradient of `x` where `dout` is given.
struct GeluArguments {
  int64_t count, half, tanh;
  const void *x, *dout;
  void *out;
};

// `kept` has the mean and the factor of each token; `half` says what `x` and `dx` are.
struct AddNormArguments {
  int64_t tokens, d, half, seed;
  double eps, rate;
  const void *x;
  const float *residual, *weight, *bias;
  float *sum, *kept, *out;
  const float *dout;
  void *dx;
  float *dresidual, *dweight, *dbias;
};

struct MergeArguments {
  int64_t rows, columns, rank, half, transposed;
  double scaling;
  const float *weight, *a, *b;
  void *out;
};

struct LowRankArguments {
  int64_t tokens, inputs, outputs, rank, part, half, x_t, dy_t;
  const void *x, *dy;
  const float *a, *b;
  float *da, *db, *down;
};

// Strides are of any sort; `out` is contiguous and bfloat16 if `narrow`. `packed` has room for all columns of
// `b`, and for as many more as fill a panel.
struct ProductArguments {
  int64_t m, n, k, narrow, add, parts, a_m, a_k, b_k, b_n;
  double scaling;
  const Half *a, *b;
  const float *bias;
  void *out;
  float *packed;
};

// Queries, keys, values, their gradients and the output are (documents, tokens, heads, width); the mask, added
// to scores, has strides of its own and is the same for all heads; `kept` has two numbers a row of the weights. With a
// window a token sees as many of the last tokens, itself among them; without, all.
struct AttentionArguments {
  int64_t documents, heads, tokens, width, half, seed, mask_b, mask_t, window;
  double scale, rate;
  const void *q, *k, *v;
  const float *mask;
  void *out;
  float *kept;
  const void *dout;
  void *dq, *dk, *dv;
};

typedef void (*Task)(const ScanArguments &, int64_t);
typedef void (*ConvTask)(const ConvArguments &, int64_t);
typedef void (*NormTask)(const NormArguments &, int64_t);

// Steele, Lea and Flood's SplitMix64: every bit of the input reaches every bit of the output.
static inline uint64_t scrambled(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

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
#ifdef __clang__
#define KNOWS_BFLOAT16 (__clang_major__ >= 9)
#define KNOWS_TILES (__clang_major__ >= 12)
#else
#define KNOWS_BFLOAT16 (__GNUC__ >= 10)
#define KNOWS_TILES (__GNUC__ >= 11)
#endif
// Only Linux is known to let a program ask for tiles.
#if defined(__linux__) && KNOWS_TILES
#define TILES 1
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

// Whole loops over the states, so that these stay in registers.
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(enable)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#ifdef X86
#if KNOWS_BFLOAT16
#ifdef __clang__
#ifdef TILES
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,avx512bf16,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,avx512bf16"))), apply_to = function)
#endif
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,avx512bf16,prefer-vector-width=512")
#ifdef TILES
#pragma GCC target("amx-tile,amx-bf16")
#endif
#endif
namespace avx512_bf16 {
#define WIDTH 16
#define HAS_BFLOAT16 1
#ifdef TILES
#define HAS_TILES 1
#endif
#include "operations.inc"
#undef HAS_TILES
#undef HAS_BFLOAT16
#undef WIDTH
}  // namespace avx512_bf16
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
namespace avx512 {
#define WIDTH 16
#include "operations.inc"
#undef WIDTH
}  // namespace avx512
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#define WIDTH 8
#include "operations.inc"
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
#include "operations.inc"
#undef WIDTH
}  // namespace baseline

// What the kernels are compiled for, best last. The numbers are those of Python's side.
enum Level { BASELINE = 0, AVX2 = 1, AVX512 = 2, AVX512_BF16 = 3 };

// The best level this processor has.
EXPORT int longdoc_best_level() {
#ifdef X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
#if KNOWS_BFLOAT16
    if (__builtin_cpu_supports("avx512bf16")) return AVX512_BF16;
#endif
    return AVX512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return AVX2;
#endif
  return BASELINE;
}

// Whether the processor multiplies bfloat16 in tiles (AMX), and the system lets this process do so.
EXPORT int longdoc_tiles() {
#ifdef TILES
  unsigned a = 7, b = 0, c = 0, d = 0;
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  const unsigned wanted = 1u << 22 | 1u << 24;  // AMX-BF16 and AMX-TILE
  const long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM of asm/prctl.h, and what is asked for
  static const bool granted = longdoc_best_level() == AVX512_BF16 && (d & wanted) == wanted &&
                              syscall(SYS_arch_prctl, request, tile_data) == 0;
  return granted;
#else
  return 0;
#endif
}

#ifdef X86
#if !KNOWS_BFLOAT16
#define avx512_bf16 avx512
#endif
#define CHOOSE(level, expression)                    \
  (level == AVX512_BF16 ? avx512_bf16::expression    \
   : level == AVX512    ? avx512::expression         \
   : level == AVX2      ? avx2::expression           \
                        : baseline::expression)
#else
#define CHOOSE(level, expression) baseline::expression
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

// Numbers too small for a full mantissa are zero while a kernel runs: gradients and states that fade
// over thousands of tokens pass through them, and some processors take a hundred times as long there.
struct FlushDenormals {
#ifdef X86
  const unsigned before = _mm_getcsr();
  FlushDenormals() { _mm_setcsr(before | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(before); }
#endif
};

// Tasks in turn on several threads. False where memory does not suffice; then nothing is whole.
template <class Arguments>
static bool run(const Arguments &s, void (*task)(const Arguments &, int64_t), int64_t tasks, int threads) {
  std::atomic<int64_t> next{0};
  std::atomic<bool> whole{true};
  auto work = [&] {
    const FlushDenormals flush;
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
  const int64_t sizes[] = {SPAN, TILE, MOST_STATES, PANEL, sizeof(ScanArguments), sizeof(ConvArguments), sizeof(NormArguments), sizeof(DropoutArguments), sizeof(MergeArguments), sizeof(AddArguments), sizeof(LowRankArguments), sizeof(ProductArguments), sizeof(AttentionArguments), sizeof(GeluArguments), sizeof(AddNormArguments)};
  return sizes[which];
}

// Adds what the ranges of a group made of the gradients of B and C to what its first made.
static void fold_ranges(const ScanArguments &s, int64_t task) {
  const int64_t size = s.starts[s.documents] * s.n;
  float *to = (task % 2 ? s.dB : s.dC) + task / 2 * s.ranges * size;
  for (int64_t range = 1; range < s.ranges; range++)
    for (int64_t i = 0; i < size; i++) to[i] += to[range * size + i];
}

static int scan(const ScanArguments &s, int level, int threads, bool forward) {
  const Task task = s.half ? CHOOSE(level, scan_task<Half>(s, forward)) : CHOOSE(level, scan_task<float>(s, forward));
  const bool whole = run(s, task, s.documents * s.groups * s.ranges, threads);
  return whole && (forward || run(s, fold_ranges, 2 * s.groups, threads));
}

EXPORT int longdoc_scan_forward(const ScanArguments *s, int level, int threads) {
  return scan(*s, level, threads, true);
}

EXPORT int longdoc_scan_backward(const ScanArguments *s, int level, int threads) {
  return scan(*s, level, threads, false);
}

static int conv(const ConvArguments &s, int level, int threads, bool forward) {
  const ConvTask task = s.half ? CHOOSE(level, conv_task<Half>(s, forward)) : CHOOSE(level, conv_task<float>(s, forward));
  return run(s, task, s.tiles, threads);
}

EXPORT int longdoc_conv_forward(const ConvArguments *s, int level, int threads) {
  return conv(*s, level, threads, true);
}

EXPORT int longdoc_conv_backward(const ConvArguments *s, int level, int threads) {
  return conv(*s, level, threads, false);
}

EXPORT int longdoc_norm_forward(const NormArguments *s, int level, int threads) {
  const NormTask task = s->half ? CHOOSE(level, norm_forward_task<Half>) : CHOOSE(level, norm_forward_task<float>);
  return run(*s, task, (s->tokens + TILE - 1) / TILE, threads);
}

EXPORT int longdoc_norm_backward(const NormArguments *s, int level, int threads) {
  const NormTask task = s->half ? CHOOSE(level, norm_backward_task<Half>) : CHOOSE(level, norm_backward_task<float>);
  return run(*s, task, (s->tokens + TILE - 1) / TILE, threads);
}

EXPORT int longdoc_dropout(const DropoutArguments *s, int level, int threads) {
  void (*task)(const DropoutArguments &, int64_t) =
      s->half ? CHOOSE(level, dropout_task<Half>) : CHOOSE(level, dropout_task<float>);
  return run(*s, task, (s->count + PIECE - 1) / PIECE, threads);
}

EXPORT int longdoc_gelu(const GeluArguments *s, int level, int threads) {
  void (*task)(const GeluArguments &, int64_t) =
      s->half ? CHOOSE(level, gelu_task<Half>) : CHOOSE(level, gelu_task<float>);
  return run(*s, task, (s->count + PIECE - 1) / PIECE, threads);
}

EXPORT int longdoc_add_norm_forward(const AddNormArguments *s, int level, int threads) {
  void (*task)(const AddNormArguments &, int64_t) =
      s->half ? CHOOSE(level, add_norm_forward_task<Half>) : CHOOSE(level, add_norm_forward_task<float>);
  return run(*s, task, (s->tokens + TILE - 1) / TILE, threads);
}

EXPORT int longdoc_add_norm_backward(const AddNormArguments *s, int level, int threads) {
  void (*task)(const AddNormArguments &, int64_t) =
      s->half ? CHOOSE(level, add_norm_backward_task<Half>) : CHOOSE(level, add_norm_backward_task<float>);
  return run(*s, task, (s->tokens + TILE - 1) / TILE, threads);
}

EXPORT int longdoc_merge(const MergeArguments *s, int level, int threads) {
  void (*task)(const MergeArguments &, int64_t) =
      s->half ? CHOOSE(level, merge_task<Half>) : CHOOSE(level, merge_task<float>);
  return run(*s, task, (s->rows + FEW - 1) / FEW, threads);
}

EXPORT int longdoc_low_rank(const LowRankArguments *s, int level, int threads) {
  void (*task)(const LowRankArguments &, int64_t) =
      s->half ? CHOOSE(level, low_rank_task<Half>) : CHOOSE(level, low_rank_task<float>);
  return run(*s, task, (s->tokens + s->part - 1) / s->part, threads);
}

EXPORT int longdoc_product(const ProductArguments *s, int level, int threads) {
  void (*pack)(const ProductArguments &, int64_t) = CHOOSE(level, pack_task);
  void (*task)(const ProductArguments &, int64_t) =
      s->narrow ? CHOOSE(level, product_task<Half>) : CHOOSE(level, product_task<float>);
  const int64_t columns = CHOOSE(level, TILE_COLUMNS), rows = CHOOSE(level, TASK_ROWS);
  return run(*s, pack, (s->n + columns - 1) / columns, threads) &&
         run(*s, task, (s->m + rows - 1) / rows * s->parts, threads);
}

EXPORT int longdoc_add(const AddArguments *s, int level, int threads) {
  void (*task)(const AddArguments &, int64_t) = s->half ? CHOOSE(level, add_task<Half>) : CHOOSE(level, add_task<float>);
  return run(*s, task, (s->count + PIECE - 1) / PIECE, threads);
}

static int attention(const AttentionArguments &s, int level, int threads, bool forward) {
  const bool tiles = s.half && level == AVX512_BF16 && longdoc_tiles();
  void (*task)(const AttentionArguments &, int64_t) =
      s.half ? CHOOSE(level, attention_task<Half>(forward, tiles)) : CHOOSE(level, attention_task<float>(forward, false));
  return run(s, task, s.documents * s.heads, threads);
}

EXPORT int longdoc_attention_forward(const AttentionArguments *s, int level, int threads) {
  return attention(*s, level, threads, true);
}

EXPORT int longdoc_attention_backward(const AttentionArguments *s, int level, int threads) {
  return attention(*s, level, threads, false);
}
