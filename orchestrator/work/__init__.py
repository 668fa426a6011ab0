"""What is to be done about each text: the queue, as pure state, and what a second attempt does differently."""
