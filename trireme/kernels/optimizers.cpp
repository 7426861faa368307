#include "trireme/kernels/optimizers.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <limits>

#include "trireme/base/error.h"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trireme/kernels/optimizers.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// a + b * c, rounded twice on every machine.
template <class D>
hn::Vec<D> add_product(D, hn::Vec<D> a, hn::Vec<D> b, hn::Vec<D> c) {
  return hn::Add(a, hn::Mul(b, c));
}

// Returns the gradient with scale and limit applied.
template <class T>
class Gradient {
 public:
  Gradient(const Update& update, double joined_decay)
      : gradient_(static_cast<const T*>(update.gradient)),
        scale_(static_cast<T>(update.scale)),
        bound_(update.clip_value > 0 ? static_cast<T>(update.clip_value)
                                     : std::numeric_limits<T>::infinity()),
        decay_(static_cast<T>(joined_decay)) {}

  template <class D>
  hn::Vec<D> at(D d, std::size_t i, hn::Vec<D> value) const {
    auto g = hn::Mul(hn::LoadU(d, gradient_ + i), hn::Set(d, scale_));
    // Comparisons keep a NaN; Min and Max may not.
    const auto bound = hn::Set(d, bound_);
    const auto lower = hn::Neg(bound);
    g = hn::IfThenElse(hn::Gt(g, bound), bound, g);
    g = hn::IfThenElse(hn::Lt(g, lower), lower, g);
    return decay_ != 0 ? add_product(d, g, value, hn::Set(d, decay_)) : g;
  }

 private:
  const T* gradient_;
  T scale_;
  T bound_;
  T decay_;
};

template <class T>
class Sgd {
 public:
  Sgd(const Update& update, const SgdRule& rule, void* momentum_buffer)
      : gradient_(update, rule.weight_decay),
        values_(update.values.as<T>()),
        buffer_(static_cast<T*>(momentum_buffer)),
        minus_lr_(static_cast<T>(-rule.lr)),
        momentum_(static_cast<T>(rule.momentum)),
        share_(static_cast<T>(1 - rule.dampening)),
        nesterov_(rule.nesterov),
        first_step_(rule.first_step) {}

  template <class D>
  void at(D d, std::size_t i) const {
    const auto value = hn::LoadU(d, values_ + i);
    auto direction = gradient_.at(d, i, value);
    if (momentum_ != 0) direction = with_momentum(d, i, direction);
    hn::StoreU(add_product(d, value, direction, hn::Set(d, minus_lr_)), d, values_ + i);
  }

 private:
  template <class D>
  hn::Vec<D> with_momentum(D d, std::size_t i, hn::Vec<D> g) const {
    const auto momentum = hn::Set(d, momentum_);
    auto buffer = g;
    if (!first_step_) {
      buffer = add_product(d, hn::Mul(hn::LoadU(d, buffer_ + i), momentum), g, hn::Set(d, share_));
    }
    hn::StoreU(buffer, d, buffer_ + i);
    return nesterov_ ? add_product(d, g, buffer, momentum) : buffer;
  }

  Gradient<T> gradient_;
  T* values_;
  T* buffer_;
  T minus_lr_;
  T momentum_;
  T share_;
  bool nesterov_;
  bool first_step_;
};

double bias_correction(double beta, std::int64_t step) {
  return 1 - std::pow(beta, static_cast<double>(step));
}

// The running means of the gradient and of its square.
template <class T>
class Moments {
 public:
  Moments(const AdamRule& rule, void* exp_avg, void* exp_avg_sq)
      : exp_avg_(static_cast<T*>(exp_avg)),
        exp_avg_sq_(static_cast<T*>(exp_avg_sq)),
        beta1_(static_cast<T>(rule.beta1)),
        share1_(static_cast<T>(1 - rule.beta1)),
        beta2_(static_cast<T>(rule.beta2)),
        share2_(static_cast<T>(1 - rule.beta2)) {}

  template <class D>
  struct Pair {
    hn::Vec<D> m, v;
  };

  template <class D>
  Pair<D> update(D d, std::size_t i, hn::Vec<D> g) const {
    const auto m = add_product(d, hn::Mul(hn::LoadU(d, exp_avg_ + i), hn::Set(d, beta1_)), g,
                               hn::Set(d, share1_));
    const auto v = add_product(d, hn::Mul(hn::LoadU(d, exp_avg_sq_ + i), hn::Set(d, beta2_)),
                               hn::Mul(g, hn::Set(d, share2_)), g);
    hn::StoreU(m, d, exp_avg_ + i);
    hn::StoreU(v, d, exp_avg_sq_ + i);
    return {m, v};
  }

 private:
  T* exp_avg_;
  T* exp_avg_sq_;
  T beta1_;
  T share1_;
  T beta2_;
  T share2_;
};

template <class T>
class Adam {
 public:
  Adam(const Update& update, const AdamRule& rule, void* exp_avg, void* exp_avg_sq)
      : gradient_(update, rule.decoupled ? 0 : rule.weight_decay),
        values_(update.values.as<T>()),
        moments_(rule, exp_avg, exp_avg_sq),
        shrink_(static_cast<T>(rule.decoupled ? 1 - rule.lr * rule.weight_decay : 1)),
        root_correction2_(static_cast<T>(std::sqrt(bias_correction(rule.beta2, rule.step)))),
        eps_(static_cast<T>(rule.eps)),
        minus_step_size_(static_cast<T>(-rule.lr / bias_correction(rule.beta1, rule.step))) {}

  template <class D>
  void at(D d, std::size_t i) const {
    auto value = hn::LoadU(d, values_ + i);
    const auto moments = moments_.update(d, i, gradient_.at(d, i, value));
    value = hn::Mul(value, hn::Set(d, shrink_));
    const auto root = hn::Div(hn::Sqrt(moments.v), hn::Set(d, root_correction2_));
    const auto denominator = hn::Add(root, hn::Set(d, eps_));
    const auto change = hn::Div(hn::Mul(moments.m, hn::Set(d, minus_step_size_)), denominator);
    hn::StoreU(hn::Add(value, change), d, values_ + i);
  }

 private:
  Gradient<T> gradient_;
  T* values_;
  Moments<T> moments_;
  T shrink_;
  T root_correction2_;
  T eps_;
  T minus_step_size_;
};

template <class T>
class LambDirection {
 public:
  explicit LambDirection(const AdamRule& rule)
      : correction1_(static_cast<T>(bias_correction(rule.beta1, rule.step))),
        root_correction2_(static_cast<T>(std::sqrt(bias_correction(rule.beta2, rule.step)))),
        eps_(static_cast<T>(rule.eps)),
        decay_(static_cast<T>(rule.weight_decay)) {}

  template <class D>
  hn::Vec<D> at(D d, hn::Vec<D> value, hn::Vec<D> m, hn::Vec<D> v) const {
    const auto root = hn::Div(hn::Sqrt(v), hn::Set(d, root_correction2_));
    const auto mean = hn::Div(m, hn::Set(d, correction1_));
    const auto step = hn::Div(mean, hn::Add(root, hn::Set(d, eps_)));
    return add_product(d, step, value, hn::Set(d, decay_));
  }

 private:
  T correction1_;
  T root_correction2_;
  T eps_;
  T decay_;
};

template <class T>
class LambMoments {
 public:
  LambMoments(const Update& update, const AdamRule& rule, void* exp_avg, void* exp_avg_sq,
              void* direction)
      : gradient_(update, 0),
        values_(update.values.as<T>()),
        out_(static_cast<T*>(direction)),
        moments_(rule, exp_avg, exp_avg_sq),
        direction_(rule) {}

  template <class D>
  void at(D d, std::size_t i) const {
    const auto value = hn::LoadU(d, values_ + i);
    const auto moments = moments_.update(d, i, gradient_.at(d, i, value));
    hn::StoreU(direction_.at(d, value, moments.m, moments.v), d, out_ + i);
  }

 private:
  Gradient<T> gradient_;
  const T* values_;
  T* out_;
  Moments<T> moments_;
  LambDirection<T> direction_;
};

template <class T>
class Lamb {
 public:
  Lamb(const Update& update, const AdamRule& rule, double ratio, void* exp_avg, void* exp_avg_sq)
      : values_(update.values.as<T>()),
        exp_avg_(static_cast<const T*>(exp_avg)),
        exp_avg_sq_(static_cast<const T*>(exp_avg_sq)),
        minus_step_size_(static_cast<T>(-rule.lr * ratio)),
        direction_(rule) {}

  template <class D>
  void at(D d, std::size_t i) const {
    const auto value = hn::LoadU(d, values_ + i);
    const auto direction =
        direction_.at(d, value, hn::LoadU(d, exp_avg_ + i), hn::LoadU(d, exp_avg_sq_ + i));
    hn::StoreU(add_product(d, value, direction, hn::Set(d, minus_step_size_)), d, values_ + i);
  }

 private:
  T* values_;
  const T* exp_avg_;
  const T* exp_avg_sq_;
  T minus_step_size_;
  LambDirection<T> direction_;
};

template <class T>
class Rmsprop {
 public:
  Rmsprop(const Update& update, const RmspropRule& rule, void* square_avg, void* grad_avg,
          void* momentum_buffer)
      : gradient_(update, rule.weight_decay),
        values_(update.values.as<T>()),
        square_avg_(static_cast<T*>(square_avg)),
        grad_avg_(static_cast<T*>(grad_avg)),
        buffer_(static_cast<T*>(momentum_buffer)),
        minus_lr_(static_cast<T>(-rule.lr)),
        alpha_(static_cast<T>(rule.alpha)),
        share_(static_cast<T>(1 - rule.alpha)),
        eps_(static_cast<T>(rule.eps)),
        momentum_(static_cast<T>(rule.momentum)) {}

  template <class D>
  void at(D d, std::size_t i) const {
    const auto value = hn::LoadU(d, values_ + i);
    const auto g = gradient_.at(d, i, value);
    const auto denominator = hn::Add(hn::Sqrt(variance(d, i, g)), hn::Set(d, eps_));
    const auto minus_lr = hn::Set(d, minus_lr_);
    auto change = hn::Zero(d);
    if (momentum_ != 0) {
      const auto old = hn::Mul(hn::LoadU(d, buffer_ + i), hn::Set(d, momentum_));
      const auto buffer = hn::Add(old, hn::Div(g, denominator));
      hn::StoreU(buffer, d, buffer_ + i);
      change = hn::Mul(buffer, minus_lr);
    } else {
      change = hn::Div(hn::Mul(g, minus_lr), denominator);
    }
    hn::StoreU(hn::Add(value, change), d, values_ + i);
  }

 private:
  // The running mean of the squares, minus the square of the running mean if centered.
  template <class D>
  hn::Vec<D> variance(D d, std::size_t i, hn::Vec<D> g) const {
    const auto alpha = hn::Set(d, alpha_);
    const auto share = hn::Set(d, share_);
    const auto square =
        add_product(d, hn::Mul(hn::LoadU(d, square_avg_ + i), alpha), hn::Mul(g, share), g);
    hn::StoreU(square, d, square_avg_ + i);
    if (grad_avg_ == nullptr) return square;
    const auto mean = add_product(d, hn::Mul(hn::LoadU(d, grad_avg_ + i), alpha), g, share);
    hn::StoreU(mean, d, grad_avg_ + i);
    return hn::Sub(square, hn::Mul(mean, mean));
  }

  Gradient<T> gradient_;
  T* values_;
  T* square_avg_;
  T* grad_avg_;
  T* buffer_;
  T minus_lr_;
  T alpha_;
  T share_;
  T eps_;
  T momentum_;
};

template <class T>
class Adagrad {
 public:
  Adagrad(const Update& update, const AdagradRule& rule, void* sum)
      : gradient_(update, rule.weight_decay),
        values_(update.values.as<T>()),
        sum_(static_cast<T*>(sum)),
        minus_lr_(static_cast<T>(-rule.lr)),
        eps_(static_cast<T>(rule.eps)) {}

  template <class D>
  void at(D d, std::size_t i) const {
    const auto value = hn::LoadU(d, values_ + i);
    const auto g = gradient_.at(d, i, value);
    const auto sum = add_product(d, hn::LoadU(d, sum_ + i), g, g);
    hn::StoreU(sum, d, sum_ + i);
    const auto denominator = hn::Add(hn::Sqrt(sum), hn::Set(d, eps_));
    const auto change = hn::Div(hn::Mul(g, hn::Set(d, minus_lr_)), denominator);
    hn::StoreU(hn::Add(value, change), d, values_ + i);
  }

 private:
  Gradient<T> gradient_;
  T* values_;
  T* sum_;
  T minus_lr_;
  T eps_;
};

template <class T>
class Ftrl {
 public:
  Ftrl(const Update& update, const FtrlRule& rule, void* z, void* n)
      : gradient_(update, 0),
        values_(update.values.as<T>()),
        z_(static_cast<T*>(z)),
        n_(static_cast<T*>(n)),
        lr_(static_cast<T>(rule.lr)),
        beta_(static_cast<T>(rule.beta)),
        l1_(static_cast<T>(rule.l1)),
        l2_(static_cast<T>(rule.l2)) {}

  template <class D>
  void at(D d, std::size_t i) const {
    const auto value = hn::LoadU(d, values_ + i);
    const auto g = gradient_.at(d, i, value);
    const auto lr = hn::Set(d, lr_);
    const auto n = hn::LoadU(d, n_ + i);
    const auto n_now = add_product(d, n, g, g);
    const auto root = hn::Sqrt(n_now);
    const auto sigma = hn::Div(hn::Sub(root, hn::Sqrt(n)), lr);
    const auto z = hn::Sub(hn::Add(hn::LoadU(d, z_ + i), g), hn::Mul(sigma, value));
    hn::StoreU(n_now, d, n_ + i);
    hn::StoreU(z, d, z_ + i);
    const auto l1 = hn::Set(d, l1_);
    const auto slope = hn::Add(hn::Div(hn::Add(hn::Set(d, beta_), root), lr), hn::Set(d, l2_));
    const auto moved = hn::Div(hn::Sub(hn::CopySign(l1, z), z), slope);
    // The comparison selects the weights that stay zero, so that a NaN is not one of them.
    hn::StoreU(hn::IfThenElse(hn::Le(hn::Abs(z), l1), hn::Zero(d), moved), d, values_ + i);
  }

 private:
  Gradient<T> gradient_;
  T* values_;
  T* z_;
  T* n_;
  T lr_;
  T beta_;
  T l1_;
  T l2_;
};

// Updates whole vectors, then the rest lane by lane, with the same bits. `rule` is passed by value
// so that the compiler can tell that no store changes it.
template <class T, class Rule>
void run(const Rule rule, std::int64_t count) {
  const hn::ScalableTag<T> d;
  const auto end = static_cast<std::size_t>(count);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= end; i += hn::Lanes(d)) rule.at(d, i);
  for (; i < end; ++i) rule.at(hn::CappedTag<T, 1>(), i);
}

// One entry for each type of values: Rule<float> or Rule<double>.
template <template <class> class Rule, class... Arguments>
void apply(const Update& update, const Arguments&... arguments) {
  if (update.values.dtype == DType::kF32) {
    run<float>(Rule<float>(update, arguments...), update.values.count);
  } else {
    run<double>(Rule<double>(update, arguments...), update.values.count);
  }
}

void sgd(const Update& update, const SgdRule& rule, void* momentum_buffer) {
  apply<Sgd>(update, rule, momentum_buffer);
}

void adam(const Update& update, const AdamRule& rule, void* exp_avg, void* exp_avg_sq) {
  apply<Adam>(update, rule, exp_avg, exp_avg_sq);
}

void lamb_moments(const Update& update, const AdamRule& rule, void* exp_avg, void* exp_avg_sq,
                  void* direction) {
  apply<LambMoments>(update, rule, exp_avg, exp_avg_sq, direction);
}

void lamb(const Update& update, const AdamRule& rule, double ratio, void* exp_avg,
          void* exp_avg_sq) {
  apply<Lamb>(update, rule, ratio, exp_avg, exp_avg_sq);
}

void rmsprop(const Update& update, const RmspropRule& rule, void* square_avg, void* grad_avg,
             void* momentum_buffer) {
  apply<Rmsprop>(update, rule, square_avg, grad_avg, momentum_buffer);
}

void adagrad(const Update& update, const AdagradRule& rule, void* sum) {
  apply<Adagrad>(update, rule, sum);
}

void ftrl(const Update& update, const FtrlRule& rule, void* z, void* n) {
  apply<Ftrl>(update, rule, z, n);
}

}  // namespace
}  // namespace trireme::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace trireme {
namespace {

HWY_EXPORT(sgd);
HWY_EXPORT(adam);
HWY_EXPORT(lamb_moments);
HWY_EXPORT(lamb);
HWY_EXPORT(rmsprop);
HWY_EXPORT(adagrad);
HWY_EXPORT(ftrl);

void require_f32_or_f64(const Update& update) {
  const DType dtype = update.values.dtype;
  if (dtype != DType::kF32 && dtype != DType::kF64) {
    throw UsageError(
        fmt::format("optimizer update: values must be f32 or f64, got {}", name_of(dtype)));
  }
}

}  // namespace

void update_sgd(const Update& update, const SgdRule& rule, void* momentum_buffer) {
  require_f32_or_f64(update);
  HWY_DYNAMIC_DISPATCH(sgd)(update, rule, momentum_buffer);
}

void update_adam(const Update& update, const AdamRule& rule, void* exp_avg, void* exp_avg_sq) {
  require_f32_or_f64(update);
  HWY_DYNAMIC_DISPATCH(adam)(update, rule, exp_avg, exp_avg_sq);
}

void lamb_direction(const Update& update, const AdamRule& rule, void* exp_avg, void* exp_avg_sq,
                    void* direction) {
  require_f32_or_f64(update);
  HWY_DYNAMIC_DISPATCH(lamb_moments)(update, rule, exp_avg, exp_avg_sq, direction);
}

void update_lamb(const Buffer& values, const AdamRule& rule, double ratio, void* exp_avg,
                 void* exp_avg_sq) {
  const Update update{.values = values};
  require_f32_or_f64(update);
  HWY_DYNAMIC_DISPATCH(lamb)(update, rule, ratio, exp_avg, exp_avg_sq);
}

void update_rmsprop(const Update& update, const RmspropRule& rule, void* square_avg, void* grad_avg,
                    void* momentum_buffer) {
  require_f32_or_f64(update);
  HWY_DYNAMIC_DISPATCH(rmsprop)(update, rule, square_avg, grad_avg, momentum_buffer);
}

void update_adagrad(const Update& update, const AdagradRule& rule, void* sum) {
  require_f32_or_f64(update);
  HWY_DYNAMIC_DISPATCH(adagrad)(update, rule, sum);
}

void update_ftrl(const Update& update, const FtrlRule& rule, void* z, void* n) {
  require_f32_or_f64(update);
  HWY_DYNAMIC_DISPATCH(ftrl)(update, rule, z, n);
}

}  // namespace trireme
#endif  // HWY_ONCE
