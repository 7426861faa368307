#include "trireme/optim/clip.h"

#include <cmath>

#include "trireme/optim/requirements.h"

namespace trireme {

double clip_scale(double norm, double max_norm) {
  require_positive("clip_scale", "max_norm", max_norm);
  const double scale = max_norm / (norm + 1e-6);
  return scale > 1 ? 1 : scale;
}

}  // namespace trireme
