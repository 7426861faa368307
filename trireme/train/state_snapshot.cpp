#include "trireme/train/state_snapshot.h"

#include <cstring>
#include <map>
#include <string>

#include "trireme/base/error.h"
#include "trireme/train/checkpoint_tensors.h"

namespace trireme {

namespace {

std::vector<StateTensor> state_of(Trainer& trainer) {
  std::map<std::string, TensorShape> all;
  for (const StateTensor& tensor : strategy_tensors(trainer.strategy().state())) {
    all[tensor.name] = tensor.region.full_shape();
  }
  return tensors_to_load(&trainer.optimizer(), trainer.strategy(), all).tensors;
}

}  // namespace

StateSnapshot::StateSnapshot(Trainer& trainer)
    : trainer_(trainer),
      steps_done_(trainer.steps_done()),
      skipped_(trainer.skipped_steps()),
      lr_(trainer.optimizer().lr()),
      gradient_scale_(trainer.optimizer().gradient_scale()) {
  if (trainer.strategy().relaxed() != nullptr) {
    throw UsageError(
        "state snapshot: groups of ranks or servers have state that cannot be taken back; build "
        "another trainer in place of restoring this one");
  }
  if (trainer.loss_scale()) loss_scale_ = trainer.loss_scale()->state();
  const std::vector<StateTensor> state = state_of(trainer);
  std::size_t bytes = 0;
  for (const StateTensor& tensor : state) bytes += tensor.values.bytes();
  values_.reserve(bytes);
  for (const StateTensor& tensor : state) {
    const auto* const data = static_cast<const std::byte*>(tensor.values.data);
    values_.insert(values_.end(), data, data + tensor.values.bytes());
  }
}

void StateSnapshot::restore() {
  trainer_.world().barrier();  // no rank reads any more
  const std::byte* from = values_.data();
  for (const StateTensor& tensor : state_of(trainer_)) {
    std::memcpy(tensor.values.data, from, tensor.values.bytes());
    from += tensor.values.bytes();
  }
  trainer_.optimizer().set_lr(lr_);
  trainer_.optimizer().set_gradient_scale(gradient_scale_);
  trainer_.continue_after(steps_done_, skipped_, loss_scale_);
  trainer_.world().barrier();
}

}  // namespace trireme
