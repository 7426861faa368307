void say() {
  std::cout << "allowed";
}
