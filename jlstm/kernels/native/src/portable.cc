// The kernel in vectors of 4 floats, which every processor has or the compiler makes.

#include "call.h"

constexpr int kLanes = 4;
#include "backward.h"
#include "forward.h"

jlstm::Target jlstm::Portable() { return {"portable", RunForward, RunBackward}; }
