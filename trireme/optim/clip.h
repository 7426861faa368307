#pragma once

namespace trireme {

/// The factor that brings a gradient of L2 norm `norm` down to `max_norm`:
/// min(1, max_norm / (norm + 1e-6)), as torch's clip_grad_norm_ (Pascanu et al. 2013). NaN for a
/// norm of NaN. Throws UsageError unless max_norm is positive.
double clip_scale(double norm, double max_norm);

}  // namespace trireme
