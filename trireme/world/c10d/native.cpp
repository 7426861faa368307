#include "trireme/world/c10d/native.h"

#include <cstring>
#include <vector>

#include "trireme/comm/semantics.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme::c10d {

namespace {

// Sums of the half types are taken in f32, which Gloo does not do.
bool is_reducible(DType dtype) {
  return dtype != DType::kF16 && dtype != DType::kBF16;
}

::c10d::ReduceOp reduce_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::kMin:
      return ::c10d::ReduceOp::MIN;
    case ReduceOp::kMax:
      return ::c10d::ReduceOp::MAX;
    case ReduceOp::kSum:
    case ReduceOp::kMean:
      break;
  }
  return ::c10d::ReduceOp::SUM;
}

at::Tensor tensor_of(const Buffer& x) {
  return tensor_over(x, {x.count});
}

// Data that is only moved is passed as bytes.
at::Tensor bytes_of(const Buffer& x) {
  return tensor_of({x.data, static_cast<std::int64_t>(x.bytes()), DType::kU8});
}

GlooWork begin_reduction(GlooGroup& group, const Operation& operation) {
  if (!is_reducible(operation.dtype) || operation.virtual_workers != 0) return {};
  std::vector<at::Tensor> tensors{tensor_of(operation.out)};
  if (operation.kind == OpKind::kAllReduce) {
    ::c10d::AllreduceOptions options;
    options.reduceOp = reduce_op(operation.op);
    options.timeout = kForever;
    return group.allreduce(tensors, options);
  }
  ::c10d::ReduceOptions options;
  options.reduceOp = reduce_op(operation.op);
  options.rootRank = operation.root;
  options.timeout = kForever;
  return group.reduce(tensors, options);
}

GlooWork begin_all_gather(GlooGroup& group, const Operation& operation) {
  std::vector<std::vector<at::Tensor>> outputs{bytes_of(operation.out).chunk(group.getSize())};
  std::vector<at::Tensor> inputs{bytes_of(operation.in)};
  ::c10d::AllgatherOptions options;
  options.timeout = kForever;
  return group.allgather(outputs, inputs, options);
}

GlooWork begin_all_to_all(GlooGroup& group, const Operation& operation) {
  at::Tensor out = bytes_of(operation.out);
  at::Tensor in = bytes_of(operation.in);
  std::vector<std::int64_t> equal;
  ::c10d::AllToAllOptions options;
  options.timeout = kForever;
  return group.alltoall_base(out, in, equal, equal, options);
}

GlooWork begin_broadcast(GlooGroup& group, const Operation& operation) {
  std::vector<at::Tensor> tensors{bytes_of(operation.out)};
  ::c10d::BroadcastOptions options;
  options.rootRank = operation.root;
  options.timeout = kForever;
  return group.broadcast(tensors, options);
}

}  // namespace

GlooWork begin_native(GlooGroup& group, const Operation& operation) {
  if (operation.count == 0 || operation.uneven) return {};
  switch (operation.kind) {
    case OpKind::kAllReduce:
    case OpKind::kReduce:
      return begin_reduction(group, operation);
    case OpKind::kAllGather:
      return begin_all_gather(group, operation);
    case OpKind::kAllToAll:
      return begin_all_to_all(group, operation);
    case OpKind::kBroadcast:
      return begin_broadcast(group, operation);
    default:
      return {};
  }
}

void finish_native(const Operation& operation) {
  if (!semantics_of(operation.kind).sums || operation.divisor == 1) return;
  tensor_of(operation.out).div_(operation.divisor);
}

}  // namespace trireme::c10d
