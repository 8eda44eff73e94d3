// Products with compact weights, and one step of a pre-norm Transformer made of them, in plain C++17 with a C interface.
//
// A step of decoding multiplies every weight once, so its speed is the speed at which weights are read from memory. Each
// product therefore reads its weights once, in order, four rows at a time, asks for them some way ahead, and keeps all
// else in the caches. Many inputs (a prompt) share each weight that was read; then arithmetic is what counts. Weights are bfloat16, or int8 with one scale a row; sums are those of float32 inputs:
//
//     bf16   the upper half of a float32: widened by a shift
//     int8   with VNNI instructions, inputs are 16-bit integers (scaled by their largest), multiplied byte by byte in
//            exact integer sums; x = step (256 high + low - 32768), so that w.x needs the row's sum of weights too.
//            Without VNNI, weights are widened to float32.
//
// The file is compiled for the processor it runs on (nn/native.py). All threads run all functions that take a Team. Work is
// cut into pieces that are taken by whoever is free, and only for pieces that were taken is anybody waited for: on a busy
// machine a thread that doesn't run holds nobody up.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>
#if defined(__AVX2__)
#include <immintrin.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

extern "C" {

// One linear map: rows x columns weights, row by row. bias may be null; scale and sums (of a row's weights) are int8's.
struct Matrix {
  const void* weights;
  const float* scale;
  const int32_t* sums;
  const float* bias;
  int32_t rows, columns, int8, _;
};

struct Norm {
  const float *weight, *bias;  // bias may be null
};

struct Layer {
  Norm attention_norm, feed_forward_norm;
  Matrix qkv, out, up, down;
};

struct Stack {
  const Layer* layers;
  Norm final_norm;  // weight is null where there is none
  Matrix head;
  int32_t count, width, heads, activation;  // activation: see activate()
  float eps, scale;
};
}

namespace {

constexpr int kAhead = 8192;      // bytes between what is multiplied and what is asked for, at least
constexpr int kPiece = 1 << 16;   // bytes of weights that a thread takes at once, about
constexpr int kTogether = 4;      // rows of weights that are read together
constexpr int kTokens = 64;       // inputs of a product that are multiplied before weights are read again
constexpr int kPatience = 4096;   // looks at a counter before the processor is offered to others

struct alignas(64) Counter {
  std::atomic<int> value{0};
};

// One thread's view of the work: all threads go through the same phases.
struct Team {
  int number, count;
  Counter* phase;  // how many pieces were taken from each thread's share, and how many of all are done

  // work(first, last) for [0, total) in pieces of ``unit``; afterwards all of it is done. A thread takes the pieces of its
  // own share, one after another in memory, and then what the others have left of theirs.
  template <typename Work>
  void each(int total, int unit, Work work) {
    const int pieces = (total + unit - 1) / unit;
    Counter& done = phase[count];
    for (int i = 0; i < count; ++i) {
      const int whose = (number + i) % count;
      const int begin = int64_t(pieces) * whose / count, end = int64_t(pieces) * (whose + 1) / count;
      for (int piece; begin < end && (piece = begin + phase[whose].value.fetch_add(1)) < end;) {
        work(piece * unit, std::min(total, (piece + 1) * unit));
        done.value.fetch_add(1, std::memory_order_release);
      }
    }
    for (int looks = 0; done.value.load(std::memory_order_acquire) < pieces; ++looks) {
      if (looks > kPatience) std::this_thread::yield();
#if defined(__AVX2__)
      else _mm_pause();
#endif
    }
    phase += count + 1;
  }
};

// ---- Lanes: as many floats as a register holds

#if defined(__AVX512F__) && defined(__AVX512BW__)
struct Lanes {
  static constexpr int size = 16;
  __m512 v = _mm512_setzero_ps();
  static Lanes of(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Lanes of(const int8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)))};
  }
  static Lanes of(const uint16_t* p) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
  }
  void add(Lanes a, Lanes b) { v = _mm512_fmadd_ps(a.v, b.v, v); }
  float sum() const { return _mm512_reduce_add_ps(v); }
};
#elif defined(__AVX2__) && defined(__FMA__)
struct Lanes {
  static constexpr int size = 8;
  __m256 v = _mm256_setzero_ps();
  static Lanes of(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Lanes of(const int8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)))};
  }
  static Lanes of(const uint16_t* p) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16))};
  }
  void add(Lanes a, Lanes b) { v = _mm256_fmadd_ps(a.v, b.v, v); }
  float sum() const {
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
  }
};
#else
struct Lanes {
  static constexpr int size = 1;
  float v = 0;
  static Lanes of(const float* p) { return {*p}; }
  static Lanes of(const int8_t* p) { return {float(*p)}; }
  static Lanes of(const uint16_t* p) {
    const uint32_t bits = uint32_t(*p) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return {value};
  }
  void add(Lanes a, Lanes b) { v += a.v * b.v; }
  float sum() const { return v; }
};
#endif

inline float widened(int8_t w) { return w; }
inline float widened(float w) { return w; }
inline float widened(uint16_t w) {
  const uint32_t bits = uint32_t(w) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Loops over a tile are unrolled before anything else is done to them, or its sums would lie in memory.
#define UNROLLED _Pragma("GCC unroll 8")

// ---- Products

// Inputs of a product, [count, columns], and the 16-bit integers that stand for them, as bytes.
struct Inputs {
  const float* x;
  int count;
  const uint8_t *high, *low;
  const float* step;
};

// Room for the integers of so many inputs.
struct Packed {
  std::vector<uint8_t> high, low;
  std::vector<float> step;
  Packed(int most, int widest) : high(size_t(most) * widest), low(high.size()), step(most) {}

  // Inputs for the matrix: prepare(n) is called for each before it is read.
  template <typename Prepare>
  Inputs inputs(const Matrix& m, const float* x, int count, Team& team, Prepare prepare) {
    team.each(count, 1, [&](int n, int) {
      prepare(n);
#if defined(__AVX512VNNI__)
      if (m.int8) pack(x + size_t(n) * m.columns, n, m.columns);
#endif
    });
    return {x, count, high.data(), low.data(), step.data()};
  }

  void pack(const float* x, int n, int width) {
    uint8_t *h = &high[size_t(n) * width], *l = &low[size_t(n) * width];
    uint32_t most = 0;  // sizes of floats are ordered as their bits are, and what isn't finite comes last
#pragma omp simd reduction(max : most)
    for (int k = 0; k < width; ++k) {
      uint32_t bits;
      std::memcpy(&bits, x + k, sizeof bits);
      most = std::max(most, bits & 0x7fffffffu);
    }
    if (most >= 0x7f800000u) {  // all results are to be NaN
      step[n] = std::nanf("");
      return;
    }
    float largest;
    std::memcpy(&largest, &most, sizeof largest);
    const float inverse = largest > 1e-34f ? 32767 / largest : 0;
    for (int k = 0; k < width; ++k) {
      const int32_t whole = int32_t(x[k] * inverse + 32768.5f);
      h[k] = uint8_t(whole >> 8), l[k] = uint8_t(whole);
    }
    step[n] = largest / 32767;
  }
};

// Asks for what lies as far on as the next rows at least, into the second level: the first has this strip to hold.
template <int W, typename Weight>
inline void ask_for(const Weight* w, int columns, int k) {
  const size_t ahead = std::max(size_t(kAhead), W * columns * sizeof(Weight));
  constexpr int line = 64 / sizeof(Weight);
  UNROLLED for (int i = 0; i < W; ++i) __builtin_prefetch((const char*)(w + W * k + i * line) + ahead, 0, 2);
}

// Products of W rows of weights and X inputs, in float32.
template <typename Weight>
struct Floats {
  static constexpr int inputs = Lanes::size == 16 ? 4 : 2;  // X: as many as there are registers for

  template <int W, int X>
  static void dots(const Matrix& m, int row, const Inputs& in, int n, float (*result)[X]) {
    const int columns = m.columns;
    const Weight* w = (const Weight*)m.weights + size_t(row) * columns;
    const float* x = in.x + size_t(n) * columns;
    Lanes sums[W][X];
    int k = 0;
    constexpr int line = 64 / sizeof(Weight);
    for (; k + line <= columns; k += line) {
      if (n == 0) ask_for<W>(w, columns, k);
      for (int j = k; j < k + line; j += Lanes::size)
        UNROLLED for (int i = 0; i < W; ++i) {
          const Lanes weight = Lanes::of(w + size_t(i) * columns + j);
          UNROLLED for (int m = 0; m < X; ++m) sums[i][m].add(weight, Lanes::of(x + size_t(m) * columns + j));
        }
    }
    UNROLLED for (int i = 0; i < W; ++i)
      UNROLLED for (int m = 0; m < X; ++m) result[i][m] = sums[i][m].sum();
    for (; k < columns; ++k)
      for (int i = 0; i < W; ++i)
        for (int m = 0; m < X; ++m)
          result[i][m] += widened(w[size_t(i) * columns + k]) * x[size_t(m) * columns + k];
  }
};

#if defined(__AVX512VNNI__)
// The same in whole numbers: exact until the last line. Their sums fit 32 bits up to 2^16 columns (nn/quantize.py).
struct Integers {
  static constexpr int inputs = 2;

  template <int W, int X>
  static void dots(const Matrix& m, int row, const Inputs& in, int n, float (*result)[X]) {
    const int columns = m.columns;
    const int8_t* w = (const int8_t*)m.weights + size_t(row) * columns;
    const uint8_t *high = in.high + size_t(n) * columns, *low = in.low + size_t(n) * columns;
    __m512i highs[W][X], lows[W][X];
    UNROLLED for (int i = 0; i < W; ++i)
      UNROLLED for (int m = 0; m < X; ++m) highs[i][m] = lows[i][m] = _mm512_setzero_si512();
    for (int k = 0; k < columns; k += 64) {
      const __mmask64 inside = columns - k >= 64 ? ~0ull : (1ull << (columns - k)) - 1;
      if (n == 0) ask_for<W>(w, columns, k);
      UNROLLED for (int i = 0; i < W; ++i) {
        const __m512i weight = _mm512_maskz_loadu_epi8(inside, w + size_t(i) * columns + k);
        UNROLLED for (int m = 0; m < X; ++m) {
          const __m512i h = _mm512_maskz_loadu_epi8(inside, high + size_t(m) * columns + k);
          const __m512i l = _mm512_maskz_loadu_epi8(inside, low + size_t(m) * columns + k);
          highs[i][m] = _mm512_dpbusd_epi32(highs[i][m], h, weight);
          lows[i][m] = _mm512_dpbusd_epi32(lows[i][m], l, weight);
        }
      }
    }
    UNROLLED for (int j = 0; j < X; ++j) {
      int32_t high_sums[W], low_sums[W];
      add_up<W>(&highs[0][j], X, high_sums), add_up<W>(&lows[0][j], X, low_sums);
      for (int i = 0; i < W; ++i) {
        const int64_t sum = 256 * int64_t(high_sums[i]) + low_sums[i] - 32768 * int64_t(m.sums[row + i]);
        result[i][j] = in.step[n + j] * float(sum);
      }
    }
  }

  // The sums of W registers.
  template <int W>
  static void add_up(const __m512i* v, int stride, int32_t* sums) {
    if constexpr (W == 4) {
      const auto half = [](__m512i a) { return _mm256_add_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1)); };
      const __m256i ab = _mm256_hadd_epi32(half(v[0]), half(v[stride])), cd = _mm256_hadd_epi32(half(v[2 * stride]), half(v[3 * stride]));
      const __m256i all = _mm256_hadd_epi32(ab, cd);
      _mm_storeu_si128((__m128i*)sums, _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1)));
    } else {
      for (int i = 0; i < W; ++i) sums[i] = _mm512_reduce_add_epi32(v[i * stride]);
    }
  }
};
using Int8 = Integers;
#else
using Int8 = Floats<int8_t>;
#endif
using Bf16 = Floats<uint16_t>;

template <typename Product, int W, int X, typename Store>
inline void tile(const Matrix& m, int row, const Inputs& in, int n, Store store) {
  float result[W][X];
  Product::template dots<W, X>(m, row, in, n, result);
  for (int i = 0; i < W; ++i)
    for (int j = 0; j < X; ++j) {
      const float scaled = m.scale ? result[i][j] * m.scale[row + i] : result[i][j];
      store(n + j, row + i, m.bias ? scaled + m.bias[row + i] : scaled);
    }
}

template <typename Product, int W, typename Store>
inline void strip(const Matrix& m, int row, const Inputs& in, Store store) {
  constexpr int X = Product::inputs;
  int n = 0;
  for (; n + X <= in.count; n += X) tile<Product, W, X>(m, row, in, n, store);
  for (; n < in.count; ++n) tile<Product, W, 1>(m, row, in, n, store);
}

template <typename Product, typename Store>
void multiply_by(const Matrix& m, const Inputs& in, Team& team, Store store) {
  const int bytes = m.columns * (m.int8 ? 1 : 2), strips = std::max(1, kPiece / (bytes * kTogether));
  team.each(m.rows, strips * kTogether, [&](int row, int last) {
    for (; row + kTogether <= last; row += kTogether) strip<Product, kTogether>(m, row, in, store);
    for (; row < last; ++row) strip<Product, 1>(m, row, in, store);
  });
}

// store(n, row, value) for every input n and every row of the matrix.
template <typename Store>
void multiply(const Matrix& m, const Inputs& in, Team& team, Store store) {
  if (m.int8) multiply_by<Int8>(m, in, team, store);
  else multiply_by<Bf16>(m, in, team, store);
}

// ---- The rest of a layer

// e^x to 2e-7 relative, in a form that compilers make vectors of: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2].
inline float exponential(float x) {
  x = std::min(std::max(x, -87.0f), 88.0f);
  const float n = std::nearbyintf(x * 1.44269504f);
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t bits = (int32_t(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}

enum Activation { kGelu, kGeluTanh, kRelu, kSilu };

void activate(float* x, int count, int kind) {
  switch (kind) {
    case kGelu:
      for (int i = 0; i < count; ++i) x[i] *= 0.5f * (1 + std::erf(x[i] * 0.70710678f));
      break;
    case kGeluTanh:  // 0.5 (1 + tanh u) = 1 / (1 + e^(-2u))
      for (int i = 0; i < count; ++i) {
        const float u = 0.79788456f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
        x[i] = x[i] / (1 + exponential(-2 * u));
      }
      break;
    case kRelu:
      for (int i = 0; i < count; ++i) x[i] = std::max(x[i], 0.0f);
      break;
    case kSilu:
      for (int i = 0; i < count; ++i) x[i] = x[i] / (1 + exponential(-x[i]));
  }
}

void normalise(const Norm& norm, float eps, const float* x, float* y, int width) {
  if (!norm.weight) {
    std::copy(x, x + width, y);
    return;
  }
  float sum = 0, squares = 0;
  for (int k = 0; k < width; ++k) sum += x[k];
  const float mean = sum / width;
  for (int k = 0; k < width; ++k) squares += (x[k] - mean) * (x[k] - mean);
  const float inverse = 1 / std::sqrt(squares / width + eps);
  for (int k = 0; k < width; ++k) y[k] = (x[k] - mean) * inverse * norm.weight[k] + (norm.bias ? norm.bias[k] : 0);
}

// softmax(scale q.k) v of one head for one query over ``length`` keys and values that lie ``stride`` floats apart.
void attend(const float* q, const float* keys, const float* values, int length, int width, size_t stride, float scale,
            float* scores, float* out) {
  float largest = -INFINITY;
  for (int s = 0; s < length; ++s) {
    const float* key = keys + s * stride;
    Lanes sums;
    int j = 0;
    for (; j + Lanes::size <= width; j += Lanes::size) sums.add(Lanes::of(q + j), Lanes::of(key + j));
    float sum = sums.sum();
    for (; j < width; ++j) sum += q[j] * key[j];
    scores[s] = sum * scale;
    largest = std::max(largest, scores[s]);
  }
  float total = 0;
  for (int s = 0; s < length; ++s) scores[s] = exponential(scores[s] - largest);
  for (int s = 0; s < length; ++s) total += scores[s];
  std::fill(out, out + width, 0.0f);
  for (int s = 0; s < length; ++s) {
    const float weight = scores[s] / total;
    const float* value = values + s * stride;
    for (int j = 0; j < width; ++j) out[j] += weight * value[j];
  }
}

// A batch of new tokens: token n is number position[n] of the sequence row[n] of the caches [rows, capacity, width].
struct Batch {
  int count;
  const int32_t *row, *position;
  float* const* keys;  // one buffer a layer
  float* const* values;
  int64_t capacity;
};

// Buffers of one step.
struct Room {
  Packed packed;
  std::vector<float> normed, queries, mixed, inner;
  Room(int count, int width, int widest)
      : packed(count, widest), normed(size_t(count) * width), queries(normed.size()), mixed(normed.size()),
        inner(size_t(count) * widest) {}
};

constexpr int kLayerPhases = 5 + 4;  // calls of Team::each in the two functions that follow

void self_attention(const Stack& stack, int number, const Batch& batch, float* x, Room& room, float* scores,
                    Team& team) {
  const Layer& layer = stack.layers[number];
  const int width = stack.width, per_head = width / stack.heads;
  float *keys = batch.keys[number], *values = batch.values[number];
  const auto place = [&](int n) { return size_t(batch.row[n] * batch.capacity + batch.position[n]) * width; };
  const Inputs in = room.packed.inputs(layer.qkv, room.normed.data(), batch.count, team, [&](int n) {
    normalise(layer.attention_norm, stack.eps, x + size_t(n) * width, &room.normed[size_t(n) * width], width);
  });
  multiply(layer.qkv, in, team, [&](int n, int r, float value) {
    if (r < width) room.queries[size_t(n) * width + r] = value;
    else if (r < 2 * width) keys[place(n) + r - width] = value;
    else values[place(n) + r - 2 * width] = value;
  });
  team.each(batch.count * stack.heads, 1, [&](int item, int) {
    const int n = item / stack.heads, head = item % stack.heads * per_head;
    const size_t begin = size_t(batch.row[n] * batch.capacity) * width + head, own = size_t(n) * width + head;
    attend(&room.queries[own], keys + begin, values + begin, batch.position[n] + 1, per_head, width, stack.scale,
           scores, &room.mixed[own]);
  });
  const Inputs mixed = room.packed.inputs(layer.out, room.mixed.data(), batch.count, team, [](int) {});
  multiply(layer.out, mixed, team, [&](int n, int r, float value) { x[size_t(n) * width + r] += value; });
}

void feed_forward(const Stack& stack, const Layer& layer, int count, float* x, Room& room, Team& team) {
  const int width = stack.width, inner = layer.up.rows;
  const Inputs in = room.packed.inputs(layer.up, room.normed.data(), count, team, [&](int n) {
    normalise(layer.feed_forward_norm, stack.eps, x + size_t(n) * width, &room.normed[size_t(n) * width], width);
  });
  multiply(layer.up, in, team, [&](int n, int r, float value) { room.inner[size_t(n) * inner + r] = value; });
  const Inputs up = room.packed.inputs(layer.down, room.inner.data(), count, team, [&](int n) {
    activate(&room.inner[size_t(n) * inner], inner, stack.activation);
  });
  multiply(layer.down, up, team, [&](int n, int r, float value) { x[size_t(n) * width + r] += value; });
}

// work(team) on all threads, which go through at most so many phases.
template <typename Work>
void together(int threads, int phases, Work work) {
  std::vector<Counter> all(size_t(phases) * (threads + 1));
#if defined(_OPENMP)
#pragma omp parallel num_threads(threads)
  work(Team{omp_get_thread_num(), omp_get_num_threads(), all.data()});
#else
  work(Team{0, 1, all.data()});
#endif
}

}  // namespace

extern "C" {

// How many numbers a register holds: 1 where only the compiler's own vectors are used.
int32_t vocablo_lanes() { return Lanes::size; }

// y [count, rows] = x [count, columns] W^T + b.
void vocablo_product(const Matrix* m, const float* x, int32_t count, float* y, int32_t threads) {
  Packed packed(std::min(count, kTokens), m->columns);
  together(threads, 2 * ((count + kTokens - 1) / kTokens), [&](Team team) {
    for (int begin = 0; begin < count; begin += kTokens) {
      const float* some = x + size_t(begin) * m->columns;
      const Inputs in = packed.inputs(*m, some, std::min(kTokens, count - begin), team, [](int) {});
      multiply(*m, in, team, [&](int n, int r, float value) { y[size_t(begin + n) * m->rows + r] = value; });
    }
  });
}

// Read ``count`` new tokens, whose embeddings are x [count, width] (used up), into the caches, and give the logits
// [asked, vocabulary] after those tokens whose numbers are in ``at``.
void vocablo_step(const Stack* stack, int32_t count, float* x, const int32_t* row, const int32_t* position,
                  float* const* keys, float* const* values, int64_t capacity, int32_t asked, const int32_t* at,
                  float* logits, int32_t threads) {
  const int width = stack->width, vocabulary = stack->head.rows;
  const Batch batch{count, row, position, keys, values, capacity};
  int widest = width;
  for (int i = 0; i < stack->count; ++i) widest = std::max(widest, int(stack->layers[i].up.rows));
  Room room(std::max(count, asked), width, widest);
  together(threads, stack->count * kLayerPhases + 2, [&](Team team) {
    std::vector<float> scores(*std::max_element(position, position + count) + 1);
    for (int i = 0; i < stack->count; ++i) {
      self_attention(*stack, i, batch, x, room, scores.data(), team);
      feed_forward(*stack, stack->layers[i], count, x, room, team);
    }
    const Inputs in = room.packed.inputs(stack->head, room.normed.data(), asked, team, [&](int n) {
      normalise(stack->final_norm, stack->eps, x + size_t(at[n]) * width, &room.normed[size_t(n) * width], width);
    });
    multiply(stack->head, in, team,
             [&](int n, int r, float value) { logits[size_t(n) * vocabulary + r] = value; });
  });
}
}
