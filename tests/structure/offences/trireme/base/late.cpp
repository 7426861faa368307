#include <string>

#include "trireme/base/late.h"
