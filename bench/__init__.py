"""What the server costs, beside stock python-socketio and Node's Socket.IO, in the same run."""
