#include "tests/nccl/on_device.h"

#include <algorithm>
#include <vector>

#include "trireme/comm/nccl/cuda.h"
#include "trireme/comm/nccl/nccl.h"
#include "trireme/comm/operation.h"

namespace trireme::test {

namespace {

/// The copies of one call's buffers: one of both where they overlap.
class Copies {
 public:
  explicit Copies(const Operation& operation) : host_out_(operation.out) {
    const Buffer& in = operation.in;
    const Buffer& out = operation.out;
    const bool overlap =
        in.count > 0 && out.count > 0 && in.as<char>() < end_of(out) && out.as<char>() < end_of(in);
    if (!overlap) {
      in_ = copy_of(in, in);
      out_ = copy_of(out, out);
      return;
    }
    char* const begin = std::min(in.as<char>(), out.as<char>());
    char* const end = std::max(end_of(in), end_of(out));
    const auto elements =
        static_cast<std::int64_t>(end - begin) / static_cast<std::int64_t>(size_of(in.dtype));
    const Buffer both = copy_of({begin, elements, in.dtype}, {begin, elements, in.dtype});
    in_ = part_of(both, in.as<char>() - begin, in);
    out_ = part_of(both, out.as<char>() - begin, out);
  }

  Buffer in() const { return in_; }
  Buffer out() const { return out_; }

  void bring_back() const {
    if (host_out_.count > 0 && host_out_.data) nccl::copy(host_out_, out_);
  }

 private:
  static char* end_of(const Buffer& x) { return x.as<char>() + x.bytes(); }

  static Buffer part_of(const Buffer& whole, std::ptrdiff_t offset, const Buffer& like) {
    return {whole.as<char>() + offset, like.count, like.dtype, Device::kCuda};
  }

  Buffer copy_of(const Buffer& like, const Buffer& values) {
    if (like.count <= 0 || !like.data) return {nullptr, like.count, like.dtype, Device::kCuda};
    blocks_.push_back(std::make_unique<cuda::DeviceMemory>(like.bytes()));
    const Buffer copy{blocks_.back()->data(), like.count, like.dtype, Device::kCuda};
    nccl::copy(copy, values);
    return copy;
  }

  std::vector<std::unique_ptr<cuda::DeviceMemory>> blocks_;
  Buffer host_out_;
  Buffer in_;
  Buffer out_;
};

class BringingBack final : public Work::State {
 public:
  BringingBack(std::unique_ptr<Copies> copies, Work work)
      : copies_(std::move(copies)), work_(std::move(work)) {}

  bool test() override {
    if (!work_.test()) return false;
    copies_->bring_back();
    return true;
  }
  void wait() override {
    work_.wait();
    copies_->bring_back();
  }

 private:
  std::unique_ptr<Copies> copies_;
  Work work_;  // last: it uses the copies
};

class OnDevice final : public Communicator {
 public:
  explicit OnDevice(std::unique_ptr<Communicator> inner)
      : Communicator(inner->rank(), inner->size()), inner_(std::move(inner)) {}

  std::string description() const override { return inner_->description() + ", on devices"; }
  void check() override { inner_->check(); }
  void abort(std::exception_ptr error) override { inner_->abort(std::move(error)); }

 private:
  Work start(const Operation& operation) override {
    if (operation.kind == OpKind::kBarrier) {
      inner_->barrier(operation.where);
      return Work();
    }
    auto copies = std::make_unique<Copies>(operation);
    Work work = call(operation, *copies);
    return Work(std::make_unique<BringingBack>(std::move(copies), std::move(work)));
  }

  // As the caller named it.
  static ReduceOp op_of(const Operation& operation) {
    return operation.divisor == 1 ? operation.op : ReduceOp::kMean;
  }

  static std::vector<std::int64_t> counts_of(const std::shared_ptr<const Pieces>& pieces,
                                             std::vector<Range> Pieces::*side) {
    std::vector<std::int64_t> counts;
    if (!pieces) return counts;
    for (const Range& range : (*pieces).*side) counts.push_back(range.size());
    return counts;
  }

  Work call(const Operation& operation, const Copies& x) {
    const SourceLocation where = operation.where;
    switch (operation.kind) {
      case OpKind::kAllReduce:
        return operation.op == ReduceOp::kSum
                   ? inner_->all_reduce(x.out(), *operation.tree, operation.divisor, where)
                   : inner_->all_reduce(x.out(), operation.op, where);
      case OpKind::kReduce:
        return inner_->reduce(x.out(), operation.root, op_of(operation), where);
      case OpKind::kReduceScatter:
        if (operation.op == ReduceOp::kSum) {
          return inner_->reduce_scatter(x.out(), x.in(), *operation.tree, operation.divisor,
                                        counts_of(operation.pieces, &Pieces::in), where);
        }
        return operation.uneven ? inner_->reduce_scatter(x.out(), x.in(),
                                                         counts_of(operation.pieces, &Pieces::in),
                                                         operation.op, where)
                                : inner_->reduce_scatter(x.out(), x.in(), operation.op, where);
      case OpKind::kAllGather:
        return operation.uneven
                   ? inner_->all_gather(x.out(), x.in(), counts_of(operation.pieces, &Pieces::out),
                                        where)
                   : inner_->all_gather(x.out(), x.in(), where);
      case OpKind::kAllToAll:
        return operation.uneven
                   ? inner_->all_to_all(x.out(), counts_of(operation.pieces, &Pieces::out), x.in(),
                                        counts_of(operation.pieces, &Pieces::in), where)
                   : inner_->all_to_all(x.out(), x.in(), where);
      case OpKind::kBroadcast:
        return inner_->broadcast(x.out(), operation.root, where);
      case OpKind::kGather:
        return inner_->gather(x.out(), x.in(), operation.root, where);
      case OpKind::kScatter:
        return inner_->scatter(x.out(), x.in(), operation.root, where);
      case OpKind::kSend:
        return inner_->send(x.in(), operation.root, operation.tag, where);
      case OpKind::kRecv:
        return inner_->recv(x.out(), operation.root, operation.tag, where);
      case OpKind::kBarrier:
      case OpKind::kAllocate:
      case OpKind::kSplit:
        break;
    }
    return Work();
  }

  Memory do_allocate(std::size_t bytes, SourceLocation where) override {
    return inner_->allocate(bytes, where);
  }
  std::unique_ptr<Communicator> do_split(int color, int key, SourceLocation where) override {
    auto part = inner_->split(color, key, where);
    return part ? on_device(std::move(part)) : nullptr;
  }
  void do_progress() override { inner_->progress(); }
  Traffic own_traffic() const override { return inner_->traffic(); }

  std::unique_ptr<Communicator> inner_;
};

}  // namespace

std::unique_ptr<Communicator> on_device(std::unique_ptr<Communicator> inner) {
  return std::make_unique<OnDevice>(std::move(inner));
}

}  // namespace trireme::test
