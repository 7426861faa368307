#include "trireme/comm/nccl/line.h"

#include "trireme/comm/nccl/types.h"

namespace trireme::nccl {

void Line::connect(const ncclUniqueId& id) {
  stream_.emplace();
  link_.emplace(id, end_ == End::kSender ? 0 : 1, 2);
}

void Line::add(std::shared_ptr<Transfer> transfer) {
  waiting_.push_back(std::move(transfer));
}

void Line::copy(const std::shared_ptr<Transfer>& from, const std::shared_ptr<Transfer>& to) {
  if (!stream_) stream_.emplace();
  const Buffer& source = from->operation.in;
  from->ready.make_wait(stream_->get());
  to->ready.make_wait(stream_->get());
  cuda::check(cudaMemcpyAsync(to->operation.out.data, source.data, source.bytes(),
                              cudaMemcpyDeviceToDevice, stream_->get()),
              "cudaMemcpyAsync");
  for (const auto& transfer : {from, to}) {
    waiting_.push_back(transfer);
    note_queued();
  }
}

void Line::advance() {
  // First: after a failure the stream goes on as if all were well.
  if (link_) link_->check_progress();
  while (link_ && link_->is_settled()) {
    if (is_asked_) note_queued();
    if (waiting_.empty()) break;
    queue(*waiting_.front());
  }
  while (!queued_.empty() && queued_.front()->done.is_done()) {
    queued_.front()->finish();
    queued_.pop_front();
  }
}

void Line::queue(const Transfer& transfer) {
  const Buffer& x = transfer.operation.in;
  transfer.ready.make_wait(stream_->get());
  is_asked_ = true;
  link_->begin_group([&] {
    if (end_ == End::kSender) {
      Link::check(
          ncclSend(x.data, count_of(x.count), type_of(x.dtype), 1, link_->get(), stream_->get()),
          "ncclSend");
    } else {
      Link::check(
          ncclRecv(x.data, count_of(x.count), type_of(x.dtype), 0, link_->get(), stream_->get()),
          "ncclRecv");
    }
  });
}

void Line::note_queued() {
  const auto transfer = waiting_.front();
  transfer->done.record(stream_->get());
  transfer->is_queued = true;
  queued_.push_back(transfer);
  waiting_.pop_front();
  is_asked_ = false;
}

std::future<void> Line::begin_close(bool is_idle) {
  return link_ ? link_->begin_close(is_idle) : std::future<void>();
}

}  // namespace trireme::nccl
