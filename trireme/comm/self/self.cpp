#include "trireme/comm/self/self.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <mutex>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/comm/heap_block.h"
#include "trireme/comm/semantics.h"

namespace trireme {

namespace {

struct Message {
  Call sent;
  std::uint64_t number = 0;  // among those from devices
  std::vector<char> bytes;
};

/// A recv that may be called before its send.
struct Receipt {
  Operation operation;
  std::unique_ptr<Message> message;  ///< null until it has come
};

class ReceiptState final : public Work::State {
 public:
  explicit ReceiptState(std::shared_ptr<Receipt> receipt) : receipt_(std::move(receipt)) {}

  bool test() override {
    if (!receipt_->message) return false;
    const Operation& wanted = receipt_->operation;
    const auto& [sent, number, bytes] = *receipt_->message;
    if (wanted.sender) *wanted.sender = {true, sent.device, number};
    if (!fits(sent, wanted)) std::rethrow_exception(refusal_of(sent, 0, wanted, 0, 1));
    if (!bytes.empty()) std::memcpy(wanted.out.data, bytes.data(), bytes.size());
    return true;
  }
  void wait() override {
    if (test()) return;
    throw UsageError(
        fmt::format("recv: a message with tag {} must be sent first, none was (rank 0 of 1)",
                    receipt_->operation.tag));
  }

 private:
  std::shared_ptr<Receipt> receipt_;
};

class SelfCommunicator final : public Communicator {
 public:
  SelfCommunicator() : Communicator(0, 1) {}

  std::string description() const override { return "one rank"; }
  void abort(std::exception_ptr error) override {
    const std::lock_guard lock(mutex_);
    error_ = std::move(error);
  }
  void check() override { throw_if_over(); }

 private:
  Work start(const Operation& operation) override;
  Memory do_allocate(std::size_t bytes, SourceLocation) override {
    return Memory(std::make_unique<HeapBlock>(bytes, 0));
  }
  std::unique_ptr<Communicator> do_split(int color, int, SourceLocation) override {
    return color < 0 ? nullptr : self_communicator();
  }

  void send(const Operation& operation);
  Work recv(const Operation& operation);

  void throw_if_over() {
    const std::lock_guard lock(mutex_);
    if (error_) std::rethrow_exception(error_);
  }

  std::list<Message> unread_;
  std::uint64_t from_devices_ = 0;
  std::list<std::shared_ptr<Receipt>> wanted_;
  std::mutex mutex_;
  std::exception_ptr error_;  // once this communicator is over
};

void sum_rows(const Operation& operation) {
  const std::int64_t count = row_length(operation, 1);
  if (count == 0) return;
  void* const sum = operation.out.data;
  std::vector<const void*> terms;
  for (int row = 0; row < rows_of(operation, 0); ++row) {
    terms.push_back(operation.in.slice(row * count, count).data);
  }
  tree_reduce({&sum, 1}, terms, *operation.tree, count, operation.dtype, operation.op,
              operation.divisor);
}

void copy(const Operation& operation) {
  if (operation.in.count == 0 || operation.in.data == operation.out.data) return;
  std::memcpy(operation.out.data, operation.in.data, operation.in.bytes());
}

Work SelfCommunicator::start(const Operation& operation) {
  throw_if_over();
  if (operation.kind == OpKind::kRecv) return recv(operation);
  if (operation.kind == OpKind::kSend) {
    send(operation);
  } else if (operation.device != Device::kCpu) {
    return Work();
  } else if (semantics_of(operation.kind).sums) {
    sum_rows(operation);
  } else if (gets(operation, 0)) {
    copy(operation);
  }
  return Work();
}

void SelfCommunicator::send(const Operation& operation) {
  const char* data = operation.in.as<char>();
  const std::uint64_t number = operation.device == Device::kCpu ? 0 : ++from_devices_;
  Message message{operation, number, {data, data + carried_bytes(operation)}};
  const auto receipt = std::find_if(wanted_.begin(), wanted_.end(), [&](const auto& wanted) {
    return is_for(operation, wanted->operation);
  });
  if (receipt == wanted_.end()) {
    unread_.push_back(std::move(message));
    return;
  }
  (*receipt)->message = std::make_unique<Message>(std::move(message));
  wanted_.erase(receipt);
}

Work SelfCommunicator::recv(const Operation& operation) {
  auto receipt = std::make_shared<Receipt>();
  receipt->operation = operation;
  const auto message = std::find_if(unread_.begin(), unread_.end(), [&](const Message& unread) {
    return is_for(unread.sent, operation);
  });
  if (message == unread_.end()) {
    wanted_.push_back(receipt);
  } else {
    receipt->message = std::make_unique<Message>(std::move(*message));
    unread_.erase(message);
  }
  return Work(std::make_unique<ReceiptState>(std::move(receipt)));
}

}  // namespace

std::unique_ptr<Communicator> self_communicator() {
  return std::make_unique<SelfCommunicator>();
}

}  // namespace trireme
