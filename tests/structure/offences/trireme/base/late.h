#pragma once

std::string late();
