// LAMB and Muon against numpy: data/README.md has the formulas.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/formats/safetensors.h"
#include "trireme/optim/make_optimizer.h"

namespace trireme {
namespace {

constexpr int kSteps = 3;

// The parameters of a file, as shards of their own.
class Reference {
 public:
  explicit Reference(const std::string& name)
      : file_(std::string(TRIREME_OPTIM_DATA) + "/" + name) {
    for (const TensorInfo& info : file_.tensors()) {
      if (!info.name.starts_with("weight.")) continue;
      names_.push_back(info.name.substr(7));
      shapes_.push_back(info.shape);
    }
    for (const std::string& parameter : names_) {
      values_.push_back(read("weight." + parameter));
      gradients_.push_back(read("gradient_1." + parameter));
    }
    for (std::size_t i = 0; i < names_.size(); ++i) {
      shards_.push_back({names_[i],
                         Region(shapes_[i]),
                         buffer_of(std::span(values_[i])),
                         {gradients_[i].data()}});
    }
  }

  std::span<Shard> shards() { return shards_; }
  double option(const std::string& name) const {
    return std::stod(file_.metadata().at("optimizer." + name));
  }
  std::string text(const std::string& name) const {
    return file_.metadata().at("optimizer." + name);
  }

  void expect_steps(Optimizer& optimizer) {
    for (int step = 1; step <= kSteps; ++step) {
      for (std::size_t i = 0; i < names_.size(); ++i) {
        const auto gradient = read("gradient_" + std::to_string(step) + "." + names_[i]);
        std::ranges::copy(gradient, gradients_[i].begin());
      }
      optimizer.step();
      for (std::size_t i = 0; i < names_.size(); ++i) expect_equal(step, i);
    }
  }

 private:
  std::vector<double> read(const std::string& name) const {
    std::vector<double> values(static_cast<std::size_t>(file_.info(name).count));
    file_.read(name, buffer_of(std::span(values)));
    return values;
  }

  void expect_equal(int step, std::size_t i) const {
    const auto wanted = read("after_" + std::to_string(step) + "." + names_[i]);
    for (std::size_t j = 0; j < wanted.size(); ++j) {
      EXPECT_NEAR(values_[i][j], wanted[j], 1e-12 * std::max(1.0, std::abs(wanted[j])))
          << names_[i] << "[" << j << "] after step " << step;
    }
  }

  SafetensorsFile file_;
  std::vector<std::string> names_;
  std::vector<std::vector<std::int64_t>> shapes_;
  std::vector<std::vector<double>> values_, gradients_;
  std::vector<Shard> shards_;
};

TEST(OptimizerReference, LambFollowsYou) {
  Reference reference("lamb.safetensors");
  const auto lamb = make_optimizer({.name = "lamb",
                                    .lr = reference.option("lr"),
                                    .eps = reference.option("eps"),
                                    .weight_decay = reference.option("weight_decay"),
                                    .beta1 = reference.option("beta1"),
                                    .beta2 = reference.option("beta2")},
                                   reference.shards());
  reference.expect_steps(*lamb);
}

TEST(OptimizerReference, MuonFollowsJordanAndAdamWUpdatesTheRest) {
  Reference reference("muon.safetensors");
  const auto steps = static_cast<std::int64_t>(reference.option("newton_schulz_steps"));
  OptimizerOptions options{
      .name = "muon",
      .lr = reference.option("lr"),
      .eps = reference.option("adamw.eps"),
      .weight_decay = reference.option("weight_decay"),
      .momentum = reference.option("momentum"),
      .beta1 = reference.option("adamw.beta1"),
      .beta2 = reference.option("adamw.beta2"),
      .newton_schulz_steps = steps,
      .adamw_lr_factor = reference.option("adamw.lr") / reference.option("lr")};
  options.groups = {
      {.kind = "bias_norm_and_embedding", .weight_decay = reference.option("adamw.weight_decay")}};
  ASSERT_EQ(reference.text("adamw.names"), "embed.weight norm.weight");
  const auto muon = make_optimizer(options, reference.shards());
  reference.expect_steps(*muon);
}

}  // namespace
}  // namespace trireme
