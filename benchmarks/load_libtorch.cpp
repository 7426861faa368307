// Loads libtorch and makes one tensor: the least that a program on libtorch takes to start, beside
// which startup.sh holds the way to the first step.

#include <ATen/ATen.h>

int main() {
  return at::ones({2, 2}).sum().item<float>() == 4 ? 0 : 1;
}
