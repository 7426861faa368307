#pragma once

#include "trireme/cost/beside.h"
