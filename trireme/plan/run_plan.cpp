#include "trireme/plan/run_plan.h"

namespace trireme::plan {

bool RunPlan::is_asynchronous() const {
  const auto* servers = std::get_if<ParameterServer>(&data_parallel);
  return servers != nullptr &&
         !std::holds_alternative<ParameterServer::Synchronous>(servers->consistency);
}

}  // namespace trireme::plan
