// std::cout << "a comment may say so";
void log(const char* text) {
  const char* quoted = "exit(1)";
  std::cout << text << quoted;
  std::printf("%s", text);
  std::snprintf(nullptr, 0, "allowed");
}
