// Skip-gram and CBOW with negative sampling (Mikolov et al. 2013), one thread's part of the text: what nn/word_vectors.py
// explains, word after word, with the updates made at once. Threads share the vectors without locks (Recht et al. 2011): their
// updates seldom meet, and what is lost when they do is small beside the noise of sampling.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

extern "C" {

struct Vectors {
  float *in, *out;            // [vocab, width]
  const float *keep;          // [vocab]: the probability that a word is kept; 0: it isn't trained
  const float *chance;        // [vocab] and
  const int32_t *other;       // [vocab]: the alias table of negative samples
  int32_t vocab, width, window, negatives, cbow, boundary;
};
}

namespace {

constexpr int kTable = 4096;      // entries of the sigmoid's table, from -kRange to kRange
constexpr float kRange = 8.0f;    // beyond it, the gradient is under 0.0004

struct Sigmoid {
  float value[kTable], loss[kTable];  // 1 / (1 + exp(-x)), and -log of it
  Sigmoid() {
    for (int i = 0; i < kTable; ++i) {
      const double x = (i + 0.5) / kTable * 2 * kRange - kRange;
      value[i] = float(1 / (1 + std::exp(-x)));
      loss[i] = float(std::log1p(std::exp(-x)));
    }
  }
  static int at(float x) { return std::clamp(int((x + kRange) * (kTable / (2 * kRange))), 0, kTable - 1); }
};
const Sigmoid kSigmoid;

// splitmix64: any seed is a good one.
struct Random {
  uint64_t state;
  uint64_t next() {
    uint64_t z = (state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  float uniform() { return float(next() >> 40) * (1.0f / (1 << 24)); }
  int below(int n) { return int((uint64_t(uint32_t(next() >> 32)) * uint64_t(n)) >> 32); }
};

struct Learner {
  const Vectors &v;
  Random random;
  std::vector<float> error, mean;
  double loss = 0;
  int64_t pairs = 0;

  Learner(const Vectors &vectors, uint64_t seed)
      : v(vectors), random{seed}, error(vectors.width), mean(vectors.width) {}

  int negative() {
    const int word = random.below(v.vocab);
    return random.uniform() < v.chance[word] ? word : v.other[word];
  }

  // One word told from `negatives` others by the vector `h`; the gradient of h, times rate, is left in `error`.
  void tell(const float *h, int word, float rate) {
    const int width = v.width;
    float *e = error.data();
    std::fill(e, e + width, 0.0f);
    for (int k = 0; k <= v.negatives; ++k) {
      const int target = k == 0 ? word : negative();
      if (k > 0 && target == word) continue;
      float *o = v.out + int64_t(target) * width;
      float dot = 0;
      for (int i = 0; i < width; ++i) dot += h[i] * o[i];
      const int at = Sigmoid::at(k == 0 ? dot : -dot);
      const float g = (1 - kSigmoid.value[at]) * (k == 0 ? rate : -rate);
      loss += kSigmoid.loss[at];
      for (int i = 0; i < width; ++i) e[i] += g * o[i];
      for (int i = 0; i < width; ++i) o[i] += g * h[i];
    }
    ++pairs;
  }

  void sentence(const std::vector<int32_t> &words, float rate) {
    const int n = int(words.size()), width = v.width;
    for (int at = 0; at < n; ++at) {
      const int reach = 1 + random.below(v.window);
      const int first = std::max(0, at - reach), last = std::min(n - 1, at + reach);
      if (v.cbow) {
        if (first == last) continue;
        std::fill(mean.begin(), mean.end(), 0.0f);
        for (int j = first; j <= last; ++j) {
          if (j == at) continue;
          const float *in = v.in + int64_t(words[j]) * width;
          for (int i = 0; i < width; ++i) mean[i] += in[i];
        }
        const float share = 1.0f / (last - first);
        for (int i = 0; i < width; ++i) mean[i] *= share;
        tell(mean.data(), words[at], rate);
        for (int j = first; j <= last; ++j) {
          if (j == at) continue;
          float *in = v.in + int64_t(words[j]) * width;
          for (int i = 0; i < width; ++i) in[i] += error[i];
        }
      } else {
        for (int j = first; j <= last; ++j) {
          if (j == at) continue;
          float *in = v.in + int64_t(words[j]) * width;
          tell(in, words[at], rate);
          for (int i = 0; i < width; ++i) in[i] += error[i];
        }
      }
    }
  }
};
}  // namespace

extern "C" {

// Trains on tokens [n], whose sentences end with v->boundary; the rate falls linearly from `rate` to `last`.
// Returns the summed loss, and in `pairs` how many words were told from others.
double vocablo_word_vectors(const Vectors *v, const int32_t *tokens, int64_t n, float rate, float last, uint64_t seed,
                            int64_t *pairs) {
  Learner learner(*v, seed);
  std::vector<int32_t> words;
  for (int64_t at = 0; at < n; ++at) {
    const int32_t token = tokens[at];
    if (token != v->boundary) {
      const float keep = v->keep[token];
      if (keep >= 1.0f || (keep > 0.0f && learner.random.uniform() < keep)) words.push_back(token);
    }
    if (token == v->boundary || at + 1 == n) {
      learner.sentence(words, rate + (last - rate) * (float(at) / float(n)));
      words.clear();
    }
  }
  *pairs = learner.pairs;
  return learner.loss;
}
}
