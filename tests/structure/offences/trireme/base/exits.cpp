void give_up() {
  work.terminate();
  std::exit(1);
}
