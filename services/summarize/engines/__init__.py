"""The engines that can shorten a transcript, one package or module each."""
