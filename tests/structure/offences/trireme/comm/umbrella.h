#pragma once

#include "trireme/trireme.h"
