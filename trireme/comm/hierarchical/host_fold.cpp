#include "trireme/comm/hierarchical/host_fold.h"

#include "trireme/kernels/cast.h"

namespace trireme::hosts {

namespace {

std::vector<Range> parts_of_hosts(const ReductionTree& tree, const Hosts& hosts) {
  std::vector<Range> parts;
  for (int host = 0; host < hosts.count(); ++host) {
    const int first = hosts.first_of(host);
    const int last = first + hosts.ranks_of(host) - 1;
    parts.push_back({tree.virtual_workers_of(first).begin, tree.virtual_workers_of(last).end});
  }
  return parts;
}

}  // namespace

HostFold::HostFold(const ReductionTree& tree, const Hosts& hosts)
    : over_hosts_(parts_of_hosts(tree, hosts)) {
  const int first = hosts.first_of(hosts.host());
  for (const ReductionTree::Node& node : over_hosts_.nodes_of(hosts.host())) {
    const Range workers{node.index << node.level, (node.index + 1) << node.level};
    std::vector<Range> parts;
    std::vector<Node::Term> terms;
    for (int local = 0; local < hosts.ranks_of(hosts.host()); ++local) {
      const Range all = tree.virtual_workers_of(first + local);
      const Range part{std::clamp(all.begin, workers.begin, workers.end),
                       std::clamp(all.end, workers.begin, workers.end)};
      // The node is a complete tree, so its virtual workers can be counted from 0.
      parts.push_back({part.begin - workers.begin, part.end - workers.begin});
      const auto nodes = tree.nodes_of(first + local);
      for (std::size_t row = 0; row < nodes.size(); ++row) {
        if (workers.contains(nodes[row].index << nodes[row].level)) {
          terms.push_back({local, static_cast<int>(row)});
        }
      }
    }
    nodes_.push_back({ReductionTree(parts), std::move(terms)});
  }
}

DType HostFold::partial_type(DType dtype) {
  return dtype == DType::kF16 || dtype == DType::kBF16 ? DType::kF32 : dtype;
}

void HostFold::sum(const std::function<const void*(int, int)>& term, std::int64_t count,
                   DType dtype, ReduceOp op, void* out) const {
  const DType partial = partial_type(dtype);
  std::vector<float> wide;
  Buffer row{out, count, partial};
  for (const Node& node : nodes_) {
    std::vector<const void*> terms;
    if (partial != dtype) wide.resize(node.terms.size() * static_cast<std::size_t>(count));
    for (std::size_t t = 0; t < node.terms.size(); ++t) {
      const void* data = term(node.terms[t].local, node.terms[t].row);
      if (partial != dtype) {
        float* widened = wide.data() + t * static_cast<std::size_t>(count);
        widen({const_cast<void*>(data), count, dtype}, widened);
        data = widened;
      }
      terms.push_back(data);
    }
    tree_reduce({&row.data, 1}, terms, node.tree, count, partial, op);
    row.data = row.slice(count, 0).data;
  }
}

}  // namespace trireme::hosts
