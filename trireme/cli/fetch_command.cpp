#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/text.h"
#include "trireme/cli/commands.h"
#include "trireme/formats/safetensors.h"
#include "trireme/server/zmq/connect_servers.h"

namespace trireme::cli {

namespace {

struct FetchArguments {
  server::ServersOptions servers;
  double timeout = 60;
  std::string output;
  std::string table;
  std::uint64_t key = 0;
  bool has_key = false;
  bool json = false;
};

constexpr std::size_t kRowsAtATime = 1 << 16;

// The memory for the tensors and rows of one fetch.
struct Fetched {
  std::vector<std::vector<double>> memory;  // 8-byte aligned
  std::vector<NamedBuffer> tensors;

  Buffer add(const std::string& name, std::vector<std::int64_t> shape, DType dtype) {
    std::int64_t count = 1;
    for (const std::int64_t size : shape) count *= size;
    auto& values = memory.emplace_back((static_cast<std::size_t>(count) * size_of(dtype) + 7) / 8);
    tensors.push_back({name, std::move(shape), {values.data(), count, dtype}});
    return tensors.back().values;
  }
};

void fetch_rows(server::Client& client, const server::SparseTable& table, Fetched& fetched) {
  const std::vector<std::uint64_t> keys = client.fetch_keys(table.name);
  const auto count = std::ssize(keys);
  const Buffer stored = fetched.add(table.name + ".keys", {count}, DType::kI64);
  std::copy(keys.begin(), keys.end(), static_cast<std::uint64_t*>(stored.data));
  const Buffer rows = fetched.add(table.name + ".rows", {count, table.width}, DType::kF32);
  for (std::size_t first = 0; first < keys.size(); first += kRowsAtATime) {
    const std::size_t some = std::min(kRowsAtATime, keys.size() - first);
    const auto width = table.width;
    client.fetch(
        std::vector<server::TableValues>{{table.name,
                                          rows.slice(static_cast<std::int64_t>(first) * width,
                                                     static_cast<std::int64_t>(some) * width),
                                          std::span(keys).subspan(first, some)}});
  }
}

// Fetches a consistent snapshot of the model and returns its version.
std::int64_t fetch_model(server::Client& client, const server::ModelSchema& model,
                         Fetched& fetched) {
  std::vector<server::TableValues> wanted;
  for (const server::DenseTable& table : model.dense) {
    wanted.push_back({table.name, fetched.add(table.name, {table.count}, table.dtype), {}});
  }
  client.pause();
  const std::int64_t version = client.fetch(wanted);
  for (const server::SparseTable& table : model.sparse) fetch_rows(client, table, fetched);
  client.resume();
  return version;
}

void print_row(const FetchArguments& arguments, const std::vector<float>& row,
               std::int64_t version) {
  if (arguments.json) {
    std::cout << nlohmann::json{{"table", arguments.table},
                                {"key", arguments.key},
                                {"version", version},
                                {"values", row}}
                     .dump()
              << '\n';
  } else {
    std::cout << fmt::format("{}[{}] after {}: {:.9g}\n", arguments.table, arguments.key,
                             counted(version, "update"), fmt::join(row, " "));
  }
}

void fetch_row(server::Client& client, const server::ModelSchema& model,
               const FetchArguments& arguments) {
  const auto table = std::ranges::find(model.sparse, arguments.table, &server::SparseTable::name);
  if (table == model.sparse.end()) {
    std::vector<std::string> names;
    for (const auto& sparse : model.sparse) names.push_back(sparse.name);
    throw UsageError(fmt::format("fetch: the servers have no table of rows \"{}\", but: {}",
                                 arguments.table, fmt::join(names, ", ")));
  }
  std::vector<float> row(static_cast<std::size_t>(table->width));
  const std::int64_t version = client.fetch(std::vector<server::TableValues>{
      {table->name, buffer_of(std::span(row)), {&arguments.key, 1}}});
  print_row(arguments, row, version);
}

void print_model(const FetchArguments& arguments, const Fetched& fetched, std::int64_t version) {
  if (arguments.json) {
    nlohmann::ordered_json json = {{"version", version}, {"tensors", nlohmann::json::array()}};
    for (const NamedBuffer& tensor : fetched.tensors) {
      json["tensors"].push_back({{"name", tensor.name}, {"shape", tensor.shape}});
    }
    if (!arguments.output.empty()) json["output"] = arguments.output;
    std::cout << json.dump() << '\n';
    return;
  }
  std::cout << fmt::format("after {}:\n", counted(version, "update"));
  for (const NamedBuffer& tensor : fetched.tensors) {
    std::cout << fmt::format("  {} {}\n", tensor.name, fmt::join(tensor.shape, " x "));
  }
  if (!arguments.output.empty()) std::cout << fmt::format("wrote {}\n", arguments.output);
}

int fetch(const FetchArguments& arguments) {
  if (arguments.table.empty() == arguments.has_key) {
    throw UsageError("fetch: one row needs both --table and --key");
  }
  server::ServersOptions servers = arguments.servers;
  servers.timeout = std::chrono::milliseconds(static_cast<std::int64_t>(1000 * arguments.timeout));
  servers.connect_timeout = std::min(servers.connect_timeout, servers.timeout);
  const auto client = server::connect_servers(servers);
  const server::ModelSchema& model = client->observe();
  if (arguments.has_key) {
    fetch_row(*client, model, arguments);
    return 0;
  }
  Fetched fetched;
  const std::int64_t version = fetch_model(*client, model, fetched);
  if (!arguments.output.empty()) {
    write_safetensors(arguments.output, fetched.tensors,
                      {{"format", "pt"}, {"trireme.version", std::to_string(version)}});
  }
  print_model(arguments, fetched, version);
  return 0;
}

}  // namespace

void add_fetch(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<FetchArguments>();
  CLI::App* command = app.add_subcommand(
      "fetch", "Get the parameters, or one row, from servers that are running (trireme serve)");
  command
      ->add_option("--servers", arguments->servers.addresses,
                   "tcp://HOST:PORT of each, in the order of their shards")
      ->required()
      ->delimiter(',');
  command->add_option("--replicas", arguments->servers.replicas,
                      "1: the addresses of their replicas follow those of the servers");
  command->add_option("--secret", arguments->servers.secret_key, "NAME.secret of a listed client");
  command
      ->add_option("--server-key", arguments->servers.server_keys,
                   "NAME.key of each server, or one for all")
      ->delimiter(',');
  command->add_option("--output", arguments->output, "safetensors file to write");
  command->add_option("--table", arguments->table, "table of rows");
  CLI::Option* key = command->add_option("--key", arguments->key, "of the row");
  command->add_option("--timeout", arguments->timeout, "seconds")->check(CLI::Range(0.001, 1e7));
  command->add_flag("--json", arguments->json, "as JSON");
  command->callback([arguments, key, &exit_code] {
    arguments->has_key = key->count() > 0;
    exit_code = fetch(*arguments);
  });
}

}  // namespace trireme::cli
