#pragma once

#include <vector>

#include "trireme/comm/above.h"
