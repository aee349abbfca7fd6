"""The gRPC door. The only home of grpc on the server's side."""
