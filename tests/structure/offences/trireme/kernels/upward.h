#pragma once

#include "trireme/base/fine.h"
#include "trireme/comm/above.h"
