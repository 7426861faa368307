void give_up() {
  work.terminate();
  transfer.abort();
  std::exit(1);
  std::abort();
}
