#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>

#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/base/text.h"
#include "trireme/cli/commands.h"
#include "trireme/cli/stop_signals.h"
#include "trireme/launch/exit_codes.h"
#include "trireme/launch/machine.h"
#include "trireme/server/checkpoint_files.h"
#include "trireme/server/zmq/zmq_server.h"

namespace trireme::cli {

namespace {

struct ServeArguments {
  std::string shard = "0/1";
  server::ZmqServer::Options server;
  bool restore = false;
  bool keep = false;
  double dead_after = 60;
  double gone_after = 5;
};

void read_shard(const std::string& text, server::ZmqServer::Options& server) {
  int used = 0;
  if (std::sscanf(text.c_str(), "%d/%d%n", &server.shard, &server.shards, &used) == 2 &&
      static_cast<std::size_t>(used) == text.size() && server.shards >= 1 && server.shard >= 0 &&
      server.shard < server.shards) {
    return;
  }
  throw UsageError(fmt::format(
      "serve: --shard must be NUMBER/COUNT, counted from 0 as in 0/4, got \"{}\"", text));
}

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(1000 * seconds));
}

server::ZmqServer::Options options_of(const ServeArguments& arguments) {
  server::ZmqServer::Options options = arguments.server;
  read_shard(arguments.shard, options);
  options.dead_after = milliseconds(arguments.dead_after);
  options.gone_after = milliseconds(arguments.gone_after);
  if (options.max_model_bytes == 0) {
    // The rest of the memory is for messages and for other programs of this host.
    options.max_model_bytes = static_cast<std::size_t>(
        0.8 * static_cast<double>(inspect_machine().available_memory_bytes));
  }
  if (arguments.restore) {
    if (options.checkpoints.empty()) {
      throw UsageError("serve: --restore needs --checkpoint DIR, the folder to restore from");
    }
    options.restore = server::checkpoint_files(options.checkpoints);
  }
  if (!options.checkpoints.empty()) make_directories(options.checkpoints);
  options.log = [](const std::string& line) { std::cout << line << std::endl; };
  return options;
}

int serve(const ServeArguments& arguments) {
  end_on_signals();
  const server::ZmqServer::Options options = options_of(arguments);
  server::ZmqServer server(options);
  std::cout << fmt::format("server {} of {} listens on {}{}", options.shard, options.shards,
                           server.endpoint(),
                           server.public_key().empty()
                               ? ", without keys: for programs of this host only"
                               : fmt::format(", public key {}", server.public_key()))
            << (options.standby ? ", as a replica" : "") << std::endl;
  if (arguments.restore) {
    std::cout << fmt::format("restored from {}, after {}", options.checkpoints,
                             counted(server.counts().version, "update"))
              << std::endl;
  }
  // From here on there may be something to save.
  stop_on_signals();
  while (stop_signal() == 0) {
    if (server.wait_until_over(std::chrono::milliseconds(200)) && !arguments.keep) {
      server.stop();
      std::cout << fmt::format("all workers have left, after {}",
                               counted(server.counts().version, "update"))
                << std::endl;
      if (!options.checkpoints.empty() && !server.is_standby()) {
        std::cout << "wrote " << server.save() << std::endl;
      }
      return static_cast<int>(ExitCode::kOk);
    }
  }
  server.stop();
  if (server.is_standby()) {
    std::cout << "stopped; its primary writes the checkpoints" << std::endl;
  } else if (options.checkpoints.empty()) {
    std::cout << "stopped; without --checkpoint DIR nothing is kept" << std::endl;
  } else {
    try {
      std::cout << fmt::format(
                       "wrote {}; continue with `trireme serve --restore` and the same options",
                       server.save())
                << std::endl;
    } catch (const UsageError& nothing) {
      std::cout << "stopped; nothing to keep: " << nothing.what() << std::endl;
    }
  }
  return exit_code_of_signal(stop_signal());
}

}  // namespace

void add_serve(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<ServeArguments>();
  CLI::App* command = app.add_subcommand(
      "serve", "Hold a part of a model for workers on other hosts (a parameter server)");
  server::ZmqServer::Options& server = arguments->server;
  command->add_option("--shard", arguments->shard, "which server of how many: 0/4");
  command->add_option("--bind", server.endpoint, "tcp://ADDRESS:PORT to listen on")->required();
  command->add_option("--secret", server.secret_key,
                      "this server's NAME.secret, of `trireme keys new`");
  command->add_option("--clients", server.clients,
                      "folder with the NAME.key of every client that may connect");
  command->add_flag("--insecure-loopback", server.insecure_loopback,
                    "without keys: any program of this host can connect, no other");
  command->add_option("--backup", server.replica,
                      "tcp://ADDRESS:PORT of a --standby, a replica that takes over");
  command->add_option("--backup-key", server.replica_key, "its NAME.key");
  command->add_flag("--standby", server.standby,
                    "be the replica of the server that names this one as --backup");
  command->add_option("--checkpoint", server.checkpoints, "folder to write checkpoints to");
  command->add_flag("--restore", arguments->restore, "begin with the checkpoint in that folder");
  command->add_flag("--keep", arguments->keep, "stay when all workers have left");
  command
      ->add_option("--dead-after", arguments->dead_after,
                   "seconds of silence after which a worker is lost")
      ->check(CLI::Range(0.001, 1e7));
  command
      ->add_option("--gone-after", arguments->gone_after,
                   "seconds in which a worker whose connection broke may reconnect")
      ->check(CLI::Range(0.0, 1e7));
  command->add_option("--max-message-bytes", server.max_message_bytes, "of one request or reply");
  command->add_option("--max-held-bytes", server.max_held_bytes,
                      "of all requests that wait for others");
  command->add_option("--max-model-bytes", server.max_model_bytes,
                      "of parameters and optimizer state; by default 0.8 of the free memory");
  command->add_option("--max-connections", server.max_connections, "at a time");
  command->callback([arguments, &exit_code] { exit_code = serve(*arguments); });
}

}  // namespace trireme::cli
