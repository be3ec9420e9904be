#pragma once
// What stands behind the public classes of internvl/internvl.h.

#include "engine/session.h"
#include "internvl/internvl.h"

namespace internvl {

TileOptions tile_options(const ImageOptions&);

struct Photo::Data {
    int width, height;
    Tiles tiles;
    double decode_ms, tile_ms;
};

struct Model::Data {
    Data(const ModelFolder& folder, const LoadOptions& options) : engine(folder, options) {}
    Engine engine;
};

}  // namespace internvl
