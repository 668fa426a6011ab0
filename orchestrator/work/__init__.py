"""What is to be done about each text, as pure state: the queue, and what a second attempt does differently."""
