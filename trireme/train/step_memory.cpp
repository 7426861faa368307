#include "trireme/train/step_memory.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/Allocator.h>
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <span>
#include <sstream>
#include <string_view>
#include <variant>

#include "trireme/kernels/row_program.h"
#include "trireme/model/loss_block.h"
#include "trireme/parallel/gradients/lay_out.h"
#include "trireme/tensor/allocation_meter.h"
#include "trireme/train/measured_shares.h"
#include "trireme/train/memory_formulas.h"
#include "trireme/train/step_benchmark.h"
#include "trireme/train/train.h"

namespace trireme {

namespace {

// A line of a file such as "VmHWM:    12345 kB".
std::int64_t bytes_in(const char* path, std::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(name)) continue;
    std::istringstream words(line.substr(name.size() + 1));
    std::int64_t kibibytes = 0;
    words >> kibibytes;
    return 1024 * kibibytes;
  }
  return 0;
}

std::int64_t process_bytes(std::string_view name) {
  return bytes_in("/proc/self/status", name);
}

// Memory that n processes share counts 1/n for each.
std::int64_t proportional_bytes() {
  return bytes_in("/proc/self/smaps_rollup", "Pss");
}

// What libraries allocate for their first product is no memory of the step.
std::int64_t proportional_bytes_after_a_product(Communicator& world) {
  at::mm(at::ones({512, 512}), at::ones({512, 512}));
  world.barrier();
  return proportional_bytes();
}

/// Looks at libtorch's memory around each block.
class BlockMemory final : public BlockHooks {
 public:
  BlockMemory(AllocationMeter& meter, const Model& model)
      : meter_(meter),
        kept_(model.blocks().size()),
        last_(static_cast<int>(model.blocks().size()) - 1),
        computes_loss_(dynamic_cast<const LossBlock*>(model.blocks().back().get()) != nullptr) {}

  void begin_step() {
    std::ranges::fill(kept_, 0);
    loss_peak_ = 0;
    before_forward_.reset();
    most_ = 0;
    most_proportional_ = 0;
    is_watching_ = true;
  }
  void end_step() {
    look();
    is_watching_ = false;
  }

  void before_forward(int /*block*/) override {
    if (!before_forward_) {
      before_forward_ = meter_.live_bytes();
      meter_.take_peak();
    }
    look();
    before_block_ = meter_.live_bytes();
  }

  void after_forward(int block) override {
    const std::int64_t peak = look();
    const std::int64_t now = meter_.live_bytes();
    auto& kept = kept_[static_cast<std::size_t>(block)];
    kept = std::max(kept, now - before_block_);
    if (block != last_) return;
    if (computes_loss_) loss_peak_ = std::max(loss_peak_, peak - now);
    before_loss_ = now;
  }

  void before_backward(int block) override {
    if (is_watching_) most_proportional_ = std::max(most_proportional_, proportional_bytes());
    if (block != last_ || computes_loss_) return;
    loss_peak_ = std::max(loss_peak_, look() - before_loss_);
  }

  /// What was there before the forward pass of the step: data, for instance.
  std::int64_t before_forward_pass() const { return before_forward_.value_or(0); }
  /// What the forward pass of each block has left, its output included and its input not.
  std::span<const std::int64_t> kept() const { return kept_; }
  bool computes_loss() const { return computes_loss_; }
  /// Of the loss, beyond what its block keeps.
  std::int64_t loss_peak() const { return loss_peak_; }
  /// The most of the step.
  std::int64_t peak() const { return most_; }
  /// Of the process, around blocks.
  std::int64_t most_proportional() const { return most_proportional_; }

 private:
  // Returns the peak since the last look.
  std::int64_t look() {
    const std::int64_t peak = meter_.take_peak();
    most_ = std::max(most_, peak);
    if (is_watching_) most_proportional_ = std::max(most_proportional_, proportional_bytes());
    return peak;
  }

  AllocationMeter& meter_;
  std::vector<std::int64_t> kept_;
  int last_;
  bool computes_loss_;
  std::optional<std::int64_t> before_forward_;  // none: no forward pass has begun
  std::int64_t before_block_ = 0;
  std::int64_t before_loss_ = 0;
  std::int64_t loss_peak_ = 0;
  std::int64_t most_ = 0;
  std::int64_t most_proportional_ = 0;
  bool is_watching_ = false;  // reading what the process has takes milliseconds
};

/// Parameters by where they lie.
struct ParameterBytes {
  std::int64_t all = 0;
  std::int64_t from_libtorch = 0;  // strategies move parameters into memory of their own
};

ParameterBytes parameter_bytes(const NamedTensors& tensors) {
  ParameterBytes bytes;
  for (const auto& [name, tensor] : tensors.parameters) {
    const auto own = static_cast<std::int64_t>(tensor.nbytes());
    bytes.all += own;
    if (tensor.storage().allocator() != nullptr) bytes.from_libtorch += own;
  }
  return bytes;
}

// The elements that this rank updates.
std::int64_t shard_bytes(std::span<const Shard> shards) {
  std::int64_t bytes = 0;
  for (const Shard& shard : shards) bytes += static_cast<std::int64_t>(shard.values.bytes());
  return bytes;
}

std::int64_t state_bytes(Optimizer& optimizer) {
  std::int64_t bytes = 0;
  for (const Optimizer::ShardState& state : optimizer.shard_states()) {
    for (const Buffer& array : state.arrays) bytes += static_cast<std::int64_t>(array.bytes());
  }
  return bytes;
}

// The largest micro-batch that this rank has in a step.
Batch largest_micro_batch(const Trainer& trainer, std::int64_t step, Range workers) {
  std::vector<std::int64_t> largest;
  std::vector<std::int64_t> samples;
  for (std::int64_t worker = workers.begin; worker < workers.end; ++worker) {
    trainer.data().sampler->indices(step, static_cast<int>(worker), samples);
    if (samples.size() > largest.size()) std::swap(samples, largest);
  }
  return trainer.data().train->batch(largest);
}

void add(std::vector<MemoryLine>& lines, std::string kind, std::optional<std::int64_t> measured,
         const std::optional<MemoryFormula>& formula, std::string text = "") {
  MemoryLine line{.kind = std::move(kind), .measured = measured, .text = std::move(text)};
  if (formula) {
    line.formula = formula->bytes;
    line.text = formula->text;
  }
  lines.push_back(std::move(line));
}

/// A rank that makes steps and looks at its memory.
class Measurement {
 public:
  Measurement(const Config& config, const plan::RunPlan& plan, Communicator& world)
      : config_(config),
        plan_(plan),
        before_(process_bytes("VmRSS")),
        proportional_before_(proportional_bytes_after_a_product(world)),
        steps_(config, plan, world),
        trainer_(steps_.trainer()),
        hooks_(meter_, trainer_.model()) {
    trainer_.model().add_hooks(hooks_);
    steps_.step();  // what only a first step allocates
    step_ = trainer_.steps_done();
    hooks_.begin_step();
    steps_.step();
    hooks_.end_step();
    trainer_.model().remove_hooks(hooks_);
  }

  StepMemory result() {
    const NamedTensors tensors = trainer_.model().tensors();
    const Range workers = trainer_.strategy().virtual_workers();
    const Batch micro_batch = largest_micro_batch(trainer_, step_, workers);
    const MemoryFormulas formulas =
        memory_formulas(config_, plan_,
                        {.model = trainer_.model(),
                         .tree = trainer_.tree(),
                         .rank = trainer_.world().rank(),
                         .holds_parameters = trainer_.strategy().holds_parameters(),
                         .train = *trainer_.data().train,
                         .micro_batch = micro_batch,
                         .rows = RowProgram(trainer_.tree(), trainer_.world().rank()).rows,
                         .virtual_workers = static_cast<int>(workers.size())});
    StepMemory memory{.run = trainer_.describe(),
                      .micro_batch = micro_batch.input.size(0),
                      .letters = formulas.letters};
    add_states(memory.lines, formulas, tensors);
    add_step(memory.lines, formulas, tensors);
    return memory;
  }

 private:
  void add_states(std::vector<MemoryLine>& lines, const MemoryFormulas& formulas,
                  const NamedTensors& tensors) {
    const std::int64_t ranks = trainer_.world().size();
    const bool is_shared = std::holds_alternative<plan::HostShared>(plan_.data_parallel);
    const auto* const sharded = std::get_if<plan::Sharded>(&plan_.data_parallel);
    const bool is_on_servers = std::holds_alternative<plan::ParameterServer>(plan_.data_parallel);
    const std::int64_t own = shard_bytes(trainer_.strategy().shards());
    parameters_ = parameter_bytes(tensors).all;
    if (is_shared) parameters_ = (parameters_ + ranks - 1) / ranks;
    if (sharded != nullptr && sharded->stage == 3) {
      for (const NamedTensor& parameter : tensors.parameters) {
        if (parameter.second.requires_grad()) {
          parameters_ -= static_cast<std::int64_t>(parameter.second.nbytes());
        }
      }
      parameters_ += own;
    }
    add(lines, "parameters", parameters_, formulas.parameters);
    if (formulas.gathered) add(lines, "gathered", std::nullopt, formulas.gathered);
    std::optional<std::int64_t> gradients;
    if (is_shared || sharded != nullptr ||
        std::holds_alternative<plan::Replicated>(plan_.data_parallel)) {
      gradients = gradient_bytes(tensors, sharded, own);
    }
    add(lines, "gradients", gradients, formulas.gradients,
        "of this strategy they cannot be told from other memory");
    if (formulas.buckets) add(lines, "buckets", std::nullopt, formulas.buckets);
    passing_ = (formulas.gathered ? formulas.gathered->bytes : 0) +
               (formulas.buckets ? formulas.buckets->bytes : 0);
    std::optional<std::int64_t> state;
    if (!is_on_servers) state = state_bytes(trainer_.optimizer());
    add(lines, "optimizer state", state, formulas.optimizer_state,
        is_on_servers ? "on the servers" : "");
    in_arrays_ = gradients.value_or(0) + state.value_or(0);
  }

  // The memory of the buckets, with their padding, and of the sums that lie elsewhere: `own` bytes.
  std::int64_t gradient_bytes(const NamedTensors& tensors, const plan::Sharded* sharded,
                              std::int64_t own) const {
    const ReductionTree& tree = trainer_.tree();
    const BucketLayout layout = lay_out(tensors, tree, plan_.bucket_bytes);
    const auto buckets = static_cast<std::int64_t>(layout.bytes_of(trainer_.world().rank()));
    if (sharded == nullptr || sharded->stage == 1) return buckets;
    const GradientParts elsewhere{.in_place = false};
    const bool are_reused = memory_mode_of(layout, tree, &elsewhere) == BucketMemory::Mode::kReused;
    return own + (are_reused ? 0 : buckets);
  }

  void add_step(std::vector<MemoryLine>& lines, const MemoryFormulas& formulas,
                const NamedTensors& tensors) {
    const std::int64_t others =
        hooks_.before_forward_pass() - parameter_bytes(tensors).from_libtorch;
    add(lines, "data", others, {}, "samples in memory, buffers and other tensors");
    const auto kept = hooks_.kept();
    const bool with_loss = hooks_.computes_loss();
    const auto of_blocks = with_loss ? kept.first(kept.size() - 1) : kept;
    std::int64_t activations = 0;
    for (const std::int64_t bytes : of_blocks) activations += bytes;
    add(lines, "activations", activations, formulas.activations, "what the blocks keep");
    if (formulas.layer_activations && of_blocks.size() > 1) {
      add(lines, "activations of a layer", *std::ranges::max_element(of_blocks.subspan(1)),
          formulas.layer_activations);
    }
    std::int64_t kept_for_loss = 0;
    if (with_loss) {
      kept_for_loss = kept.back();
      add(lines, "loss, kept", kept_for_loss, formulas.kept_for_loss);
    }
    add(lines, with_loss ? "loss, beyond that" : "loss", hooks_.loss_peak(), formulas.full_logits,
        "its peak, the gradient of the model's output included");
    const std::int64_t of_step = hooks_.peak() - hooks_.before_forward_pass();
    add(lines, "temporaries", of_step - activations - kept_for_loss, {},
        "the peak of the step less activations and what the loss keeps");
    add(lines, "sum at the peak", parameters_ + passing_ + in_arrays_ + others + of_step, {},
        "of the rows above; the loss beyond what it keeps is among the temporaries");
    add(lines, "proportional", mean_of(hooks_.most_proportional() - proportional_before_), {},
        "proportional set size, the mean of the ranks, less that before the model was made");
    add(lines, "peak resident", process_bytes("VmHWM"), {}, "the process");
    add(lines, "resident before", before_, {}, "of that, before the model was made");
  }

  std::int64_t mean_of(std::int64_t bytes) const {
    Communicator& world = trainer_.world();
    world.all_reduce(buffer_of(std::span(&bytes, 1))).wait();
    return bytes / world.size();
  }

  const Config& config_;
  const plan::RunPlan& plan_;
  std::int64_t before_;
  std::int64_t proportional_before_;
  AllocationMeter meter_;
  StepBenchmark steps_;
  Trainer& trainer_;
  BlockMemory hooks_;
  std::int64_t step_ = 0;
  std::int64_t parameters_ = 0;
  std::int64_t in_arrays_ = 0;  // of gradients and optimizer state
  std::int64_t passing_ = 0;    // gathered parameters and gradients on their way
};

// Of each line the most of any rank.
void take_largest(std::vector<MemoryLine>& lines, Communicator& world) {
  constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::min();
  std::vector<std::int64_t> values;
  for (const MemoryLine& line : lines) {
    values.push_back(line.measured.value_or(kNone));
    values.push_back(line.formula.value_or(kNone));
  }
  world.all_reduce(buffer_of(std::span(values)), ReduceOp::kMax).wait();
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (values[2 * i] != kNone) lines[i].measured = values[2 * i];
    if (values[2 * i + 1] != kNone) lines[i].formula = values[2 * i + 1];
  }
}

}  // namespace

const MemoryLine* StepMemory::find(const std::string& kind) const {
  const auto found = std::ranges::find(lines, kind, &MemoryLine::kind);
  return found != lines.end() ? &*found : nullptr;
}

StepMemory measure_memory(const Config& config, Communicator& world) {
  at::set_num_threads(static_cast<int>(std::max<std::int64_t>(1, config.training.threads)));
  plan::RunPlan plan = check(config, world.size());
  Config measured = config;
  measure_shares(measured, plan, world);
  // A thread that reads ahead would allocate between two looks.
  measured.data.prefetch_steps = 0;
  StepMemory memory = Measurement(measured, plan, world).result();
  take_largest(memory.lines, world);
  std::vector<std::int64_t> samples{memory.micro_batch};
  world.all_reduce(buffer_of(std::span(samples)), ReduceOp::kMax).wait();
  memory.micro_batch = samples.front();
  return memory;
}

}  // namespace trireme
