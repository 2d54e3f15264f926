// Runs every kernel at every instruction set on buffers of just the size they need, against plain
// loops. Built with AddressSanitizer and UndefinedBehaviorSanitizer by `make check-native`.

#include "../../longdoc/kernels/native/kernels.cpp"

#include <cstdio>
#include <random>

static std::mt19937 generator(1);

static std::vector<float> drawn(int64_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (auto &value : values) value = normal(generator);
  return values;
}

static int failures = 0;

template <class Wanted>
static void close(const char *what, const std::vector<float> &found, const std::vector<Wanted> &wanted, double within = 1e-4) {
  for (size_t i = 0; i < found.size(); i++)
    if (!(std::fabs(found[i] - wanted[i]) <= within * (1 + std::fabs(wanted[i])))) {
      std::printf("%s: element %zu is %g, not %g\n", what, i, found[i], wanted[i]);
      failures++;
      return;
    }
}

// Numbers that bfloat16 has, and the same as bfloat16.
static std::vector<float> coarse(std::vector<float> values) {
  for (auto &value : values) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    bits &= 0xffff0000u;
    std::memcpy(&value, &bits, 4);
  }
  return values;
}

static std::vector<uint16_t> halves(const std::vector<float> &values) {
  std::vector<uint16_t> found(values.size());
  for (size_t i = 0; i < values.size(); i++) std::memcpy(&found[i], (const char *)&values[i] + 2, 2);
  return found;
}

static std::vector<float> floats(const std::vector<uint16_t> &values) {
  std::vector<float> found(values.size(), 0.0f);
  for (size_t i = 0; i < values.size(); i++) std::memcpy((char *)&found[i] + 2, &values[i], 2);
  return found;
}

static std::vector<int64_t> part_starts(const std::vector<int64_t> &starts, int64_t size) {
  std::vector<int64_t> before{0};
  for (size_t i = 1; i < starts.size(); i++)
    before.push_back(before.back() + (starts[i] - starts[i - 1] + size - 1) / size);
  return before;
}

static void check_scan(int level, int threads, std::vector<int64_t> starts, int64_t d, int64_t n, int64_t groups, int64_t range) {
  const int64_t l = starts.back(), documents = (int64_t)starts.size() - 1;
  const auto spans = part_starts(starts, SPAN);
  const int64_t ranges = (d / groups + range - 1) / range;
  auto u = drawn(l * d), delta = drawn(l * d), z = drawn(l * d), A = drawn(d * n), B = drawn(l * groups * n);
  auto C = drawn(l * groups * n), D = drawn(d), bias = drawn(d), initial = drawn(documents * d * n), dout = drawn(l * d);
  auto dlast = drawn(documents * d * n);
  // Away from zero, so that states stay small and close() can be strict.
  for (auto &a : A) a = -0.1f - std::fabs(a);
  std::vector<float> out(l * d), last(documents * d * n), states(spans.back() * d * n), du(l * d), ddelta(l * d), dz(l * d);
  std::vector<float> dA(documents * d * n), dB(groups * ranges * l * n), dC(dB.size()), dD(documents * d), dbias(documents * d);
  std::vector<float> dinitial(documents * d * n);
  ScanArguments s{};
  s.documents = documents, s.d = d, s.n = n, s.groups = groups, s.ranges = ranges, s.range = range, s.softplus = 1;
  s.u_t = s.delta_t = s.z_t = s.dout_t = s.dz_t = d;
  s.starts = starts.data(), s.span_starts = spans.data();
  s.u = u.data(), s.delta = delta.data(), s.z = z.data(), s.A = A.data(), s.B = B.data(), s.C = C.data();
  s.D = D.data(), s.bias = bias.data(), s.initial = initial.data(), s.out = out.data(), s.last = last.data();
  s.states = states.data(), s.dout = dout.data(), s.dlast = dlast.data(), s.du = du.data(), s.ddelta = ddelta.data();
  s.dz = dz.data(), s.dA = dA.data(), s.dB = dB.data(), s.dC = dC.data(), s.dD = dD.data(), s.dbias = dbias.data();
  s.dinitial = dinitial.data();
  if (!longdoc_scan_forward(&s, level, threads) || !longdoc_scan_backward(&s, level, threads)) failures++;
  std::vector<double> wanted(l * d), ends(documents * d * n);
  for (int64_t b = 0; b < documents; b++)
    for (int64_t c = 0; c < d; c++) {
      std::vector<double> h(n);
      for (int64_t i = 0; i < n; i++) h[i] = initial[(b * d + c) * n + i];
      const int64_t g = c / (d / groups);
      for (int64_t t = starts[b]; t < starts[b + 1]; t++) {
        const double raw = delta[t * d + c] + bias[c], dt = std::log1p(std::exp(raw)), x = u[t * d + c];
        double y = D[c] * x;
        for (int64_t i = 0; i < n; i++) {
          h[i] = std::exp(dt * A[c * n + i]) * h[i] + dt * x * B[(t * groups + g) * n + i];
          y += h[i] * C[(t * groups + g) * n + i];
        }
        const double gate = z[t * d + c];
        wanted[t * d + c] = y * gate / (1 + std::exp(-gate));
      }
      for (int64_t i = 0; i < n; i++) ends[(b * d + c) * n + i] = h[i];
    }
  close("scan", out, wanted);
  close("last state", last, ends);
}

static void check_conv(int level, int threads, std::vector<int64_t> starts, int64_t d, int64_t k) {
  const int64_t l = starts.back(), documents = (int64_t)starts.size() - 1;
  const auto tiles = part_starts(starts, TILE);
  std::vector<int64_t> owners;
  for (int64_t b = 0; b < documents; b++) owners.insert(owners.end(), tiles[b + 1] - tiles[b], b);
  auto x = drawn(l * d), weight = drawn(k * d), bias = drawn(d), initial = drawn(documents * (k - 1) * d), dout = drawn(l * d);
  std::vector<float> out(l * d), dx(l * d), dweight(tiles.back() * (k + 1) * d), dinitial(initial.size());
  ConvArguments s{};
  s.d = d, s.k = k, s.tiles = tiles.back(), s.silu = 1, s.x_t = s.dout_t = s.dx_t = d, s.starts = starts.data();
  s.tile_starts = tiles.data(), s.tile_documents = owners.data(), s.x = x.data(), s.weight = weight.data();
  s.bias = bias.data(), s.initial = initial.data(), s.out = out.data(), s.dout = dout.data(), s.dx = dx.data();
  s.dweight = dweight.data(), s.dinitial = dinitial.data();
  if (!longdoc_conv_forward(&s, level, threads) || !longdoc_conv_backward(&s, level, threads)) failures++;
  std::vector<double> wanted(l * d);
  for (int64_t b = 0; b < documents; b++)
    for (int64_t t = starts[b]; t < starts[b + 1]; t++)
      for (int64_t c = 0; c < d; c++) {
        double y = bias[c];
        for (int64_t j = 0; j < k; j++) {
          const int64_t at = t - (k - 1) + j;
          y += weight[j * d + c] * (at >= starts[b] ? x[at * d + c] : initial[(b * (k - 1) + at - starts[b] + k - 1) * d + c]);
        }
        wanted[t * d + c] = y / (1 + std::exp(-y));
      }
  close("convolution", out, wanted);
}

static void check_norm_and_dropout(int level, int threads, int64_t tokens, int64_t d) {
  auto x = drawn(tokens * d), weight = drawn(d), dout = drawn(tokens * d);
  std::vector<float> out(tokens * d), scale(tokens), dx(tokens * d), dweight((tokens + TILE - 1) / TILE * d);
  NormArguments s{};
  s.tokens = tokens, s.d = d, s.eps = 1e-5, s.x = x.data(), s.weight = weight.data(), s.out = out.data();
  s.scale = scale.data(), s.dout = dout.data(), s.dx = dx.data(), s.dweight = dweight.data();
  if (!longdoc_norm_forward(&s, level, threads) || !longdoc_norm_backward(&s, level, threads)) failures++;
  std::vector<double> wanted(tokens * d);
  for (int64_t t = 0; t < tokens; t++) {
    double squares = 0;
    for (int64_t c = 0; c < d; c++) squares += (double)x[t * d + c] * x[t * d + c];
    for (int64_t c = 0; c < d; c++) wanted[t * d + c] = weight[c] * x[t * d + c] / std::sqrt(squares / d + 1e-5);
  }
  close("normalisation", out, wanted);
  DropoutArguments drop{};
  drop.count = tokens * d, drop.seed = 123456789012345, drop.rate = 0.5, drop.x = x.data(), drop.out = out.data();
  if (!longdoc_dropout(&drop, level, threads)) failures++;
  for (int64_t i = 0; i < tokens * d; i++)
    if (out[i] != 0 && out[i] != 2 * x[i]) failures++;
}

static void check_merge_and_add(int level, int threads, int64_t rows, int64_t columns, int64_t rank) {
  auto weight = drawn(rows * columns), a = drawn(rank * columns), b = drawn(rows * rank);
  std::vector<float> out(rows * columns);
  MergeArguments s{};
  s.rows = rows, s.columns = columns, s.rank = rank, s.scaling = 2, s.weight = weight.data();
  s.a = a.data(), s.b = b.data(), s.out = out.data();
  if (!longdoc_merge(&s, level, threads)) failures++;
  std::vector<float> turned(out.size());
  MergeArguments other = s;
  other.out = turned.data(), other.transposed = 1;
  if (!longdoc_merge(&other, level, threads)) failures++;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < columns; c++)
      if (turned[c * rows + r] != out[r * columns + c]) failures++;
  std::vector<double> wanted(weight.begin(), weight.end()), sums(weight.size());
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < columns; c++)
      for (int64_t k = 0; k < rank; k++) wanted[r * columns + c] += 2.0 * b[r * rank + k] * a[k * columns + c];
  close("merged weight", out, wanted);
  AddArguments add{};
  for (size_t i = 0; i < sums.size(); i++) sums[i] = (double)weight[i] + out[i];
  auto y = out;
  add.count = rows * columns, add.x = weight.data(), add.y = y.data(), add.out = out.data();
  if (!longdoc_add(&add, level, threads)) failures++;
  close("sum", out, sums);
}

static void check_low_rank(int level, int threads, int64_t tokens, int64_t inputs, int64_t outputs, int64_t rank) {
  auto x = coarse(drawn(tokens * inputs)), dy = coarse(drawn(tokens * outputs)), a = drawn(rank * inputs), b = drawn(rank * outputs);
  LowRankArguments s{};
  s.tokens = tokens, s.inputs = s.x_t = inputs, s.outputs = s.dy_t = outputs, s.rank = rank, s.part = 40;
  const int64_t parts = (tokens + s.part - 1) / s.part;
  std::vector<float> da(parts * a.size()), db(parts * b.size()), down(tokens * rank);
  s.x = x.data(), s.dy = dy.data(), s.a = a.data(), s.b = b.data();
  s.da = da.data(), s.db = db.data(), s.down = down.data();
  if (!longdoc_low_rank(&s, level, threads)) failures++;
  std::vector<double> wanted_da(da.size()), wanted_db(db.size()), wanted_down(down.size());
  for (int64_t t = 0; t < tokens; t++)
    for (int64_t r = 0; r < rank; r++) {
      double low = 0, narrowed = 0;
      for (int64_t i = 0; i < inputs; i++) low += (double)x[t * inputs + i] * a[r * inputs + i];
      for (int64_t i = 0; i < outputs; i++) narrowed += (double)dy[t * outputs + i] * b[r * outputs + i];
      wanted_down[t * rank + r] = narrowed;
      const int64_t row = t / s.part * rank + r;
      for (int64_t i = 0; i < inputs; i++) wanted_da[row * inputs + i] += narrowed * x[t * inputs + i];
      for (int64_t i = 0; i < outputs; i++) wanted_db[row * outputs + i] += low * dy[t * outputs + i];
    }
  close("narrowed gradient", down, wanted_down);
  close("gradient of a", da, wanted_da);
  close("gradient of b", db, wanted_db);
  // The same numbers as bfloat16, the same sums.
  const auto half_x = halves(x), half_dy = halves(dy);
  std::vector<float> half_da(da.size()), half_db(db.size());
  s.half = 1, s.x = half_x.data(), s.dy = half_dy.data(), s.da = half_da.data(), s.db = half_db.data();
  if (!longdoc_low_rank(&s, level, threads) || half_da != da || half_db != db) failures++;
}

// Products of bfloat16, into float32 with a bias, and added to bfloat16.
static void check_product(int level, int threads, int64_t m, int64_t k, int64_t n, bool transposed) {
  const auto a = coarse(drawn(m * k)), b = coarse(drawn(k * n)), bias = drawn(n), before = coarse(drawn(m * n));
  const auto half_a = halves(a), half_b = halves(b);
  const int64_t room = (n + 31) / 32 * 32;
  std::vector<float> out(m * n), packed(room * k);
  ProductArguments s{};
  s.m = m, s.n = n, s.k = k, s.parts = std::min<int64_t>(3, (n + 31) / 32), s.scaling = -0.5;
  // Transposed, rows of one and columns of the other lie side by side.
  s.a_m = transposed ? 1 : k, s.a_k = transposed ? m : 1, s.b_k = transposed ? 1 : n, s.b_n = transposed ? k : 1;
  s.a = (const Half *)half_a.data(), s.b = (const Half *)half_b.data();
  s.bias = bias.data(), s.out = out.data(), s.packed = packed.data();
  if (!longdoc_product(&s, level, threads)) failures++;
  auto added = halves(before);
  s.narrow = s.add = 1, s.bias = nullptr, s.out = added.data();
  if (!longdoc_product(&s, level, threads)) failures++;
  std::vector<double> wanted(m * n), wanted_added(m * n);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      double sum = 0;
      for (int64_t p = 0; p < k; p++) sum += (double)a[i * s.a_m + p * s.a_k] * b[p * s.b_k + j * s.b_n];
      wanted[i * n + j] = bias[j] - 0.5 * sum;
      wanted_added[i * n + j] = before[i * n + j] - 0.5 * sum;
    }
  close("product", out, wanted);
  close("product added to bfloat16", floats(added), wanted_added, 4e-3);
}

static void check_attention(int level, int threads, int64_t documents, int64_t heads, int64_t tokens, int64_t width) {
  const int64_t count = documents * tokens * heads * width;
  auto q = drawn(count), k = drawn(count), v = drawn(count), dout = drawn(count), mask = drawn(documents * tokens);
  std::vector<float> out(count), kept(documents * heads * tokens * 2), dq(count), dk(count), dv(count);
  AttentionArguments s{};
  s.documents = documents, s.heads = heads, s.tokens = tokens, s.width = width, s.scale = 0.3, s.mask_b = tokens;
  s.q = q.data(), s.k = k.data(), s.v = v.data(), s.mask = mask.data(), s.out = out.data(), s.kept = kept.data();
  s.dout = dout.data(), s.dq = dq.data(), s.dk = dk.data(), s.dv = dv.data();
  if (!longdoc_attention_forward(&s, level, threads) || !longdoc_attention_backward(&s, level, threads)) failures++;
  std::vector<double> wanted(count), wanted_dq(count), wanted_dk(count), wanted_dv(count);
  for (int64_t b = 0; b < documents; b++)
    for (int64_t h = 0; h < heads; h++) {
      auto place = [&](int64_t t) { return ((b * tokens + t) * heads + h) * width; };
      auto dot = [&](const std::vector<float> &x, int64_t t, const std::vector<float> &y, int64_t u) {
        double sum = 0;
        for (int64_t i = 0; i < width; i++) sum += (double)x[place(t) + i] * y[place(u) + i];
        return sum;
      };
      for (int64_t t = 0; t < tokens; t++) {
        std::vector<double> weights(tokens), slopes(tokens);
        double sum = 0, mean = 0;
        for (int64_t u = 0; u < tokens; u++) sum += weights[u] = std::exp(0.3 * dot(q, t, k, u) + mask[b * tokens + u]);
        for (int64_t u = 0; u < tokens; u++) mean += (weights[u] /= sum) * (slopes[u] = dot(dout, t, v, u));
        for (int64_t u = 0; u < tokens; u++)
          for (int64_t i = 0; i < width; i++) {
            const double slope = 0.3 * weights[u] * (slopes[u] - mean);
            wanted[place(t) + i] += weights[u] * v[place(u) + i];
            wanted_dv[place(u) + i] += weights[u] * dout[place(t) + i];
            wanted_dq[place(t) + i] += slope * k[place(u) + i];
            wanted_dk[place(u) + i] += slope * q[place(t) + i];
          }
      }
    }
  close("attention", out, wanted);
  close("gradient of queries", dq, wanted_dq);
  close("gradient of keys", dk, wanted_dk);
  close("gradient of values", dv, wanted_dv);
  // The output is linear in the values: both sums are the same where both ways drop the same weights.
  AttentionArguments drop = s;
  drop.rate = 0.5, drop.seed = 123456789012345;
  if (!longdoc_attention_forward(&drop, level, threads) || !longdoc_attention_backward(&drop, level, threads)) failures++;
  double forward = 0, back = 0;
  for (int64_t i = 0; i < count; i++) forward += (double)out[i] * dout[i], back += (double)v[i] * dv[i];
  if (!(std::fabs(forward - back) <= 1e-3 * (1 + std::fabs(forward)))) {
    std::printf("dropout of weights: %g forward, %g back\n", forward, back);
    failures++;
  }
}

// bfloat16, in tiles where the processor has them, against float32: eight bits are 4e-3 a rounding, and weights and
// their gradients are rounded between products.
static void check_half_attention(int level, int threads, int64_t documents, int64_t heads, int64_t tokens, int64_t width, int64_t window) {
  const int64_t count = documents * tokens * heads * width;
  const auto q = coarse(drawn(count)), k = coarse(drawn(count)), v = coarse(drawn(count)), dout = coarse(drawn(count));
  const auto mask = drawn(documents * tokens);
  std::vector<float> out(count), kept(documents * heads * tokens * 2), dq(count), dk(count), dv(count);
  AttentionArguments s{};
  s.documents = documents, s.heads = heads, s.tokens = tokens, s.width = width, s.scale = 0.3, s.mask_b = tokens;
  s.rate = 0.25, s.seed = 123456789012345, s.window = window, s.mask = mask.data(), s.kept = kept.data();
  s.q = q.data(), s.k = k.data(), s.v = v.data(), s.dout = dout.data();
  s.out = out.data(), s.dq = dq.data(), s.dk = dk.data(), s.dv = dv.data();
  if (!longdoc_attention_forward(&s, level, threads) || !longdoc_attention_backward(&s, level, threads)) failures++;
  const auto hq = halves(q), hk = halves(k), hv = halves(v), hdout = halves(dout);
  std::vector<uint16_t> hout(count), hdq(count), hdk(count), hdv(count);
  s.half = 1, s.q = hq.data(), s.k = hk.data(), s.v = hv.data(), s.dout = hdout.data();
  s.out = hout.data(), s.dq = hdq.data(), s.dk = hdk.data(), s.dv = hdv.data();
  if (!longdoc_attention_forward(&s, level, threads) || !longdoc_attention_backward(&s, level, threads)) failures++;
  close("attention in bfloat16", floats(hout), out, 0.02);
  close("gradient of queries in bfloat16", floats(hdq), dq, 0.03);
  close("gradient of keys in bfloat16", floats(hdk), dk, 0.03);
  close("gradient of values in bfloat16", floats(hdv), dv, 0.03);
}

static void check_gelu(int level, int threads, int64_t count) {
  const auto x = drawn(count), dout = drawn(count);
  std::vector<float> out(count), dx(count);
  GeluArguments s{};
  s.count = count, s.x = x.data(), s.out = out.data();
  GeluArguments back = s;
  back.dout = dout.data(), back.out = dx.data();
  if (!longdoc_gelu(&s, level, threads) || !longdoc_gelu(&back, level, threads)) failures++;
  std::vector<double> wanted(count), slopes(count);
  for (int64_t i = 0; i < count; i++) {
    const double share = std::erfc(-x[i] / std::sqrt(2.0)) / 2;
    wanted[i] = x[i] * share;
    slopes[i] = dout[i] * (share + x[i] * std::exp(-0.5 * x[i] * x[i]) / std::sqrt(2 * 3.14159265358979));
  }
  close("GELU", out, wanted);
  close("gradient of GELU", dx, slopes);
}

static void check_add_norm(int level, int threads, int64_t tokens, int64_t d) {
  const auto x = drawn(tokens * d), residual = drawn(tokens * d), weight = drawn(d), bias = drawn(d), dout = drawn(tokens * d);
  const int64_t tiles = (tokens + TILE - 1) / TILE;
  std::vector<float> sum(tokens * d), kept(2 * tokens), out(tokens * d), dx(tokens * d), dresidual(tokens * d);
  std::vector<float> dweight(tiles * d), dbias(tiles * d);
  AddNormArguments s{};
  s.tokens = tokens, s.d = d, s.eps = 0.1, s.x = x.data(), s.residual = residual.data(), s.weight = weight.data();
  s.bias = bias.data(), s.sum = sum.data(), s.kept = kept.data(), s.out = out.data(), s.dout = dout.data();
  s.dx = dx.data(), s.dresidual = dresidual.data(), s.dweight = dweight.data(), s.dbias = dbias.data();
  if (!longdoc_add_norm_forward(&s, level, threads) || !longdoc_add_norm_backward(&s, level, threads)) failures++;
  std::vector<double> wanted(tokens * d), slopes(tokens * d);
  for (int64_t t = 0; t < tokens; t++) {
    double mean = 0, square = 0, one = 0, two = 0;
    for (int64_t i = t * d; i < (t + 1) * d; i++) mean += ((double)x[i] + residual[i]) / d;
    for (int64_t i = t * d; i < (t + 1) * d; i++) square += std::pow((double)x[i] + residual[i] - mean, 2) / d;
    const double scale = 1 / std::sqrt(square + 0.1);
    auto unit = [&](int64_t i) { return ((double)x[t * d + i] + residual[t * d + i] - mean) * scale; };
    for (int64_t i = 0; i < d; i++) {
      wanted[t * d + i] = unit(i) * weight[i] + bias[i];
      one += (double)dout[t * d + i] * weight[i] / d, two += (double)dout[t * d + i] * weight[i] * unit(i) / d;
    }
    for (int64_t i = 0; i < d; i++) slopes[t * d + i] = ((double)dout[t * d + i] * weight[i] - one - unit(i) * two) * scale;
  }
  close("normalised sum", out, wanted);
  close("gradient of a normalised sum", dresidual, slopes);
  close("and of what is added", dx, slopes);
}

int main() {
  int checks = 0;
  for (int level = 0; level <= longdoc_best_level(); level++) {
    for (int threads : {1, 3}) {
      for (int64_t d : {2, 15, 16, 34, 140})
        for (int64_t n : {1, 7, 8, 16}) {
          check_scan(level, threads, {0, 1, 34, 330}, d, n, 1, 64);
          check_scan(level, threads, {0, 65}, d, n, d % 2 ? 1 : 2, 32);
          checks += 2;
        }
      for (int64_t d : {1, 15, 16, 34})
        for (int64_t k : {2, 3, 4}) {
          check_conv(level, threads, {0, 1, 3, 68, 200}, d, k);
          check_norm_and_dropout(level, threads, 70, d);
          check_merge_and_add(level, threads, 13 * k, d, k);
          check_low_rank(level, threads, 50 * k - 37, d, 3 * d + k, 4 * k + 1);
          check_product(level, threads, 70 * k - 67, 191 * d / 16 + k, 30 * d - 29, d % 2);
          checks += 4;
        }
      for (int64_t tokens : {1, 2, 31, 32, 65})
        for (int64_t width : {1, 8, 17, 32}) {
          check_attention(level, threads, 2, 3, tokens, width);
          check_half_attention(level, threads, 2, 3, tokens, 2 * width + 1, 0);
          check_half_attention(level, threads, 2, 3, tokens, width, tokens / 2 + 1);
          check_add_norm(level, threads, 2 * tokens, 3 * width);
          check_gelu(level, threads, tokens * width);
          checks += 5;
        }
    }
  }
  std::printf("%d checks, %d failures\n", checks, failures);
  return failures != 0;
}
