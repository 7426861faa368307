#pragma once

/// All that a libtorch program needs to train on several ranks. The program itself decides where
/// these go in its own loop; README.md has the shortest one.

#include "trireme/base/error.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/checkpoint/model_file.h"
#include "trireme/comm/communicator.h"
#include "trireme/comm/mesh.h"
#include "trireme/data/loader.h"
#include "trireme/data/sampler.h"
#include "trireme/model/module_block.h"
#include "trireme/optim/clip.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/optim/schedule.h"
#include "trireme/optim/sgd.h"
#include "trireme/parallel/host_shared.h"
#include "trireme/parallel/local_steps.h"
#include "trireme/parallel/relaxed_consistency.h"
#include "trireme/parallel/replicated.h"
#include "trireme/parallel/sharded.h"
#include "trireme/parallel/strategy.h"
#include "trireme/tensor/prepare_groups.h"
#include "trireme/train/loop_checkpointer.h"
#include "trireme/train/verify.h"
#include "trireme/world/connect.h"
#include "trireme/world/tensor_collectives.h"
