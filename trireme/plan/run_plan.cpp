#include "trireme/plan/run_plan.h"

namespace trireme::plan {

std::string_view name_of(const DataParallel& way) {
  struct Name {
    std::string_view operator()(const Replicated&) const { return "replicated"; }
    std::string_view operator()(const Sharded&) const { return "sharded"; }
    std::string_view operator()(const HostShared&) const { return "host_shared"; }
    std::string_view operator()(const LocalSteps&) const { return "local_steps"; }
    std::string_view operator()(const ParameterServer&) const { return "parameter_server"; }
  };
  return std::visit(Name(), way);
}

bool RunPlan::is_asynchronous() const {
  const auto* servers = std::get_if<ParameterServer>(&data_parallel);
  return servers != nullptr &&
         !std::holds_alternative<ParameterServer::Synchronous>(servers->consistency);
}

}  // namespace trireme::plan
