int twice();
